//! Every verdict in one SQLite file: what was said of which picture by which model, and what a person said of it later.
//! Rows are only added, and chained by digests, so that one that was removed or edited shows (`pbas history verify`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use pbas::Result;
use pbas::detector::Verdict;
use pbas::score::Region;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::judge::{Judge, Judged};

mod chain;
pub mod export;
mod fault;
pub mod ledger;
pub mod read;
pub mod retain;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
pub mod verify;
mod write;

/// A picture to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPart {
    /// When it was judged.
    pub time: Timestamp,
    /// The file's name, or the name that a client gave; no path, never interpreted.
    pub name: String,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the model file, in hexadecimal.
    pub model_digest: String,
    /// What the model says, or why it could not.
    pub outcome: Result<Said, String>,
}

/// What the model said, and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// [`pbas::detector::Prediction::image_score`].
    pub image_score: f64,
    /// What it was held against.
    pub threshold: f64,
    /// [`pbas::detector::Prediction::p_value`].
    pub p_value: f64,
    /// The verdict.
    pub verdict: Verdict,
    /// [`pbas::detector::Prediction::value`]: enough to judge the picture by another calibration of the same heads.
    pub value: f64,
    /// Highest value of its map.
    pub peak: f64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Regions, in pixels of the picture.
    pub regions: Vec<Region>,
    /// Time of decoding.
    pub decode_ms: f64,
    /// Time of the judgement.
    pub judge_ms: f64,
    /// Small JPEG of the picture.
    #[serde(skip)]
    pub thumbnail: Option<Vec<u8>>,
    /// Grey PNG of the map, of the thumbnail's size ([`Judge::small_pictures`]).
    #[serde(skip)]
    pub map: Option<Vec<u8>>,
}

impl Said {
    /// Of a judged picture; with its thumbnail and map, or without.
    ///
    /// # Errors
    /// None in practice.
    pub fn of(judge: &Judge, judged: &Judged, pictures: bool) -> Result<Self> {
        let p = &judged.prediction;
        let (thumbnail, map) = pictures.then(|| judge.small_pictures(judged)).transpose()?.unzip();
        Ok(Self {
            image_score: p.image_score,
            threshold: p.threshold,
            p_value: p.p_value,
            verdict: p.verdict,
            value: p.value,
            peak: pbas::calibrate::peak(&p.map),
            width: p.width as u32,
            height: p.height as u32,
            regions: p.regions.clone(),
            decode_ms: judged.decode_ms,
            judge_ms: p.milliseconds,
            thumbnail,
            map,
        })
    }
}

/// What an operator says of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// Good after all.
    Good,
    /// A defect.
    Defect,
    /// Looked at and left open.
    Skipped,
}

/// A recorded part, without its pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Number in the record, from 1, ascending in time of recording.
    pub id: i64,
    /// When it was judged.
    pub time: Timestamp,
    /// [`NewPart::name`].
    pub name: String,
    /// [`NewPart::size`].
    pub size: u64,
    /// [`NewPart::sha256`].
    pub sha256: String,
    /// [`NewPart::model`].
    pub model: String,
    /// [`NewPart::model_digest`].
    pub model_digest: String,
    /// What the model said (its pictures left out: [`Record::thumbnail`], [`Record::map`]).
    #[serde(flatten)]
    pub said: Option<Said>,
    /// Why it could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last review.
    pub review: Option<Review>,
}

/// Which parts.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Of one verdict; parts with an error have none.
    pub verdict: Option<Verdict>,
    /// Parts that could not be judged alone.
    pub failed: bool,
    /// Of one model, by name.
    pub model: Option<String>,
    /// Of one model file, by digest.
    pub model_digest: Option<String>,
    /// Reviewed so; `Some(None)`: not reviewed.
    pub review: Option<Option<Review>>,
    /// With a number below this one (to page backwards).
    pub before: Option<i64>,
    /// With a number above this one.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Latest first; otherwise in order.
    pub latest_first: bool,
}

/// The record. Clones share its connections; any number of other processes may read the file meanwhile.
#[derive(Debug, Clone)]
pub struct Record {
    /// Reads while the other writes; in memory it is the same. It is closed first: the last one that can write puts the log into the file.
    reader: Arc<Mutex<Connection>>,
    /// Writes one after the other.
    writer: Arc<Mutex<Connection>>,
    path: Option<PathBuf>,
}

impl Record {
    /// Opens a file to write and read it; it is made if there is none, and one of an earlier schema is brought up to date.
    ///
    /// # Errors
    /// The file is no record, of a later schema, locked, or cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let writer = schema::open(path)?;
        let reader = schema::open_to_read(path)?;
        let share = |c| Arc::new(Mutex::new(c));
        Ok(Self { writer: share(writer), reader: share(reader), path: Some(path.to_owned()) })
    }

    /// Opens a file to read it alone; it must be there. Another process may write it meanwhile.
    ///
    /// # Errors
    /// The file is no record, of another schema, or cannot be read.
    pub fn open_to_read(path: &Path) -> Result<Self> {
        let reader = Arc::new(Mutex::new(schema::open_to_read(path)?));
        Ok(Self { writer: Arc::clone(&reader), reader, path: Some(path.to_owned()) })
    }

    /// A new one that is gone with the process.
    ///
    /// # Errors
    /// None in practice.
    pub fn in_memory() -> Result<Self> {
        let connection = Arc::new(Mutex::new(schema::in_memory()?));
        Ok(Self { writer: Arc::clone(&connection), reader: connection, path: None })
    }

    /// The file, `None` for one in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    // A panic elsewhere leaves no half transaction: it is rolled back when it is dropped.
    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, e: rusqlite::Error) -> pbas::Error {
        fault::fault(self.path(), e)
    }
}
