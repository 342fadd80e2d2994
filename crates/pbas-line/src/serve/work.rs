//! A picture that is to be judged, and what becomes of it: decoded, judged, drawn where that is wanted, recorded.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use jiff::Timestamp;
use pbas::Threads;
use pbas::detector::{Scratch, Verdict};
use pbas::error::chain;
use pbas::image::{DecodeOptions, Rgb8, decode_rgb};
use pbas::report::verdict::Judged;
use pbas::score::ScoreMap;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::metrics::{Metrics, Stage};
use super::refusal::Refusal;
use crate::hub::Hub;
use crate::judge::{self, Judge, hex};
use crate::record::{NewPart, Said};

/// A picture as it came.
#[derive(Debug)]
pub enum Picture {
    /// A file's bytes.
    Encoded(Bytes),
    /// Pixels.
    Decoded(Rgb8),
}

/// What is wanted beside the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Picture and map side by side, as PNG.
    pub heatmap: bool,
    /// The score map.
    pub map: bool,
}

/// A picture to be judged.
#[derive(Debug)]
pub struct Job {
    /// By which model; it stays alive until its last picture is judged, whatever replaces it.
    pub judge: Arc<Judge>,
    /// What.
    pub picture: Picture,
    /// Its name, for messages and the record; never a path that is opened.
    pub name: String,
    /// What is wanted.
    pub wanted: Wanted,
    /// When the request was complete.
    pub arrived: Instant,
    /// The picture's share of the memory for bodies, shared by the pictures of one request.
    #[expect(dead_code, reason = "dropped with the job")]
    pub held: Option<Arc<OwnedSemaphorePermit>>,
}

/// A verdict.
#[derive(Debug)]
pub struct Answer {
    /// What `predict` says too.
    pub judged: Judged,
    /// Picture and map as PNG, where wanted.
    pub heatmap: Option<Vec<u8>>,
    /// The score map, where wanted.
    pub map: Option<ScoreMap>,
    /// Its number in the record; `None` where it could not be recorded.
    pub part: Option<i64>,
    /// Milliseconds from the complete request to its turn.
    pub waited_ms: f64,
}

/// What work needs beside the job.
#[derive(Clone)]
pub struct Desk {
    /// Where verdicts go.
    pub hub: Hub,
    /// Figures.
    pub metrics: Metrics,
    /// The most pixels of a picture.
    pub pixels: u64,
}

impl Desk {
    /// Judges and records a picture.
    ///
    /// # Errors
    /// It is no readable picture within the limits; that is recorded too.
    pub fn judge(&self, job: &Job, scratch: &mut Scratch, threads: Threads) -> Result<Answer, Refusal> {
        let waited = job.arrived.elapsed();
        self.metrics.stage(Stage::Wait, waited.as_secs_f64());
        match self.look(job, scratch, threads) {
            Ok(judged) => {
                let heatmap = job.wanted.heatmap.then(|| self.draw(job, &judged)).transpose();
                let heatmap = heatmap.map_err(|e| Refusal::from(&e))?;
                let part = self.record(job, Said::of(&job.judge, &judged, true).map_err(|e| chain(&e)));
                let p = judged.prediction;
                let anomalous = p.verdict == Verdict::Anomalous;
                self.metrics.verdict(&job.judge.name, p.verdict.word(), anomalous, p.image_score);
                Ok(Answer {
                    judged: Judged::new(Path::new(&job.name), &p),
                    heatmap,
                    map: job.wanted.map.then_some(p.map),
                    part,
                    waited_ms: waited.as_secs_f64() * 1e3,
                })
            }
            Err(e) => {
                self.record(job, Err(chain(&e)));
                Err(Refusal::from(&e))
            }
        }
    }

    fn look(&self, job: &Job, scratch: &mut Scratch, threads: Threads) -> pbas::Result<judge::Judged> {
        let detector = job.judge.detector();
        let start = Instant::now();
        let picture = match &job.picture {
            Picture::Encoded(bytes) => {
                let options = DecodeOptions { max_pixels: self.pixels, ..detector.decode_options() };
                decode_rgb(bytes, &job.name, &options)?
            }
            Picture::Decoded(picture) => picture.clone(),
        };
        let decode_ms = start.elapsed().as_secs_f64() * 1e3;
        self.metrics.stage(Stage::Decode, decode_ms / 1e3);
        let prediction = detector.predict(&picture, scratch, threads)?;
        self.metrics.stage(Stage::Judge, prediction.milliseconds / 1e3);
        Ok(judge::Judged { picture, prediction, decode_ms })
    }

    fn draw(&self, job: &Job, judged: &judge::Judged) -> pbas::Result<Vec<u8>> {
        let start = Instant::now();
        let png = job.judge.heatmap(judged, &job.name)?.png()?;
        self.metrics.stage(Stage::Draw, start.elapsed().as_secs_f64());
        Ok(png)
    }

    /// Records a verdict before its answer is given. A record that cannot be written does not stop the line: the verdict is given all the
    /// same, without a number, and the failure is logged and counted.
    fn record(&self, job: &Job, outcome: Result<Said, String>) -> Option<i64> {
        let start = Instant::now();
        let bytes = match &job.picture {
            Picture::Encoded(bytes) => &bytes[..],
            Picture::Decoded(picture) => &picture.data,
        };
        let part = NewPart {
            time: Timestamp::now(),
            name: job.name.clone(),
            size: bytes.len() as u64,
            sha256: hex(&Sha256::digest(bytes)),
            model: job.judge.name.clone(),
            model_digest: job.judge.digest.clone(),
            outcome,
        };
        let recorded = self.hub.add(&part);
        self.metrics.stage(Stage::Record, start.elapsed().as_secs_f64());
        match recorded {
            Ok(part) => Some(part.id),
            Err(e) => {
                self.metrics.error("record");
                tracing::error!(error = chain(&e), "a verdict could not be recorded");
                None
            }
        }
    }
}
