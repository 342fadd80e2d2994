//! A file -> what the model says of it, or that it is not complete after all.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use pbas::detector::Scratch;
use pbas::error::chain;
use pbas::image::Rgb8;
use pbas::{Error, Result, Threads};
use sha2::{Digest, Sha256};

use super::scan::{Candidate, state};
use crate::judge::{Judge, hex};
use crate::record::{NewPart, Said};

/// What came of a candidate.
#[derive(Debug)]
pub enum Outcome {
    /// To be recorded: judged, or given up with its error; and its heatmap, if one is wanted.
    Ready(Box<NewPart>, Option<Rgb8>),
    /// It is looked at again when it has changed, or when patience ends.
    NotYet,
}

/// What is wanted of a picture beside the verdict.
#[derive(Debug, Clone, Copy)]
pub struct Extras {
    /// Its thumbnail and map.
    pub pictures: bool,
    /// Its heatmap, drawn.
    pub heatmap: bool,
}

/// Reads and judges a candidate.
pub fn take(
    judge: &Judge,
    candidate: &Candidate,
    extras: Extras,
    scratch: &mut Scratch,
    threads: Threads,
) -> Outcome {
    let shown = shown(&candidate.path);
    let read = read(judge, &candidate.path, &shown);
    // It was written to meanwhile: what was read may be half of each.
    if state(&candidate.path) != Some((candidate.size, candidate.mtime_ns)) {
        return Outcome::NotYet;
    }
    let mut part = NewPart {
        time: Timestamp::now(),
        name: shown.clone(),
        size: candidate.size,
        sha256: String::new(),
        model: judge.name.clone(),
        model_digest: judge.digest.clone(),
        outcome: Err(String::new()),
    };
    let judged = read.and_then(|bytes| {
        part.sha256 = hex(&Sha256::digest(&bytes));
        let judged = judge.judge(&bytes, &shown, scratch, threads)?;
        let drawn = extras.heatmap.then(|| judge.heatmap(&judged, &shown)).transpose()?;
        Ok((Said::of(judge, &judged, extras.pictures)?, drawn))
    });
    match judged {
        Ok((said, drawn)) => {
            part.outcome = Ok(said);
            Outcome::Ready(Box::new(part), drawn)
        }
        Err(_) if !candidate.last_try => Outcome::NotYet,
        Err(e) => {
            part.outcome = Err(chain(&e));
            Outcome::Ready(Box::new(part), None)
        }
    }
}

/// The bytes of a file, within the limit of the decoder.
fn read(judge: &Judge, path: &Path, shown: &str) -> Result<Vec<u8>> {
    let limit = judge.detector().decode_options().max_file_bytes;
    let cannot = |e| Error::io("cannot read", Path::new(shown), e);
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(limit + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > limit {
        return Err(Error::limits(format!("`{shown}` is too long: expected at most {limit} bytes")));
    }
    Ok(bytes)
}

/// A file's name as text; what is not UTF-8 is replaced.
#[must_use]
pub fn shown(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
