//! New good pictures -> a new threshold, without training. None of the heads has seen them, so they are one sample for all heads
//! together, and the promise needs fewer of them than fold heads need.

use std::path::PathBuf;

use pbas_nn::linalg::Threads;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::calibrate::{peak, suspects};
use crate::detector::{Detector, Model, Scratch};
use crate::image::read_rgb_and_bytes;
use crate::train::observer::Observer;
use crate::train::short_digest;
use crate::{Error, ErrorKind, Result};

/// Fewest pictures that make a sample.
pub const FEWEST: usize = 5;

/// A recalibrated model.
#[derive(Debug)]
pub struct Recalibration {
    /// The model with its new threshold; weights and everything else are as they were.
    pub model: Model,
    /// Pictures that could not be read and were left out, with the reason.
    pub skipped: Vec<(PathBuf, Error)>,
}

/// Judges new good pictures and sets the threshold by them.
///
/// # Errors
/// A picture that the model was trained on, fewer than [`FEWEST`] readable pictures, a rate out of range, or an interrupt.
pub fn recalibrate(
    detector: &Detector,
    pictures: &[PathBuf],
    false_reject_rate: f64,
    observer: &dyn Observer,
) -> Result<Recalibration> {
    crate::calibrate::check_rate(false_reject_rate)?;
    let model = detector.model();
    observer.begin("calibrating", pictures.len() as u64, "pictures");
    let judge = |scratch: &mut Scratch, path: &PathBuf| -> Result<Judged> {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "calibration was stopped"));
        }
        let mut read = || -> Result<(f64, f64, String)> {
            let (picture, bytes) = read_rgb_and_bytes(path, &detector.decode_options())?;
            let (scores, map, _) = detector.scores(&picture, scratch, Threads::One)?;
            let value = model.calibration.value(&scores, model.settings.scoring);
            Ok((value, peak(&map), short_digest(&Sha256::digest(&bytes))))
        };
        let judged = read();
        observer.advance(1);
        Ok(judged)
    };
    let judged: Vec<Judged> =
        pictures.par_iter().with_max_len(1).map_init(Scratch::default, judge).collect::<Result<_>>()?;
    observer.end();

    let (mut kept, mut values, mut peaks, mut seen, mut skipped) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut digests, mut copies) = (std::collections::HashSet::new(), 0);
    for (path, result) in pictures.iter().zip(judged) {
        match result {
            Err(e) => {
                observer.warn(&format!("left out: {}", crate::error::chain(&e)));
                skipped.push((path.clone(), e));
            }
            Ok((_, _, digest)) if model.provenance.picture_digests.binary_search(&digest).is_ok() => {
                seen.push(path);
            }
            Ok((_, _, digest)) if !digests.insert(digest.clone()) => copies += 1,
            Ok((value, peak, _)) => {
                kept.push(path);
                values.push(value);
                peaks.push(peak);
            }
        }
    }
    if let Some(first) = seen.first() {
        return Err(Error::caller(format!(
            "calibration pictures: expected ones that the model was not trained on, found {} that it was, such as `{}`",
            seen.len(),
            first.display()
        ))
        .with_hint("a model scores pictures that it has seen too low, so they would promise too much; give new ones"));
    }
    if copies > 0 {
        observer.warn(&format!("{copies} pictures are byte for byte copies of others and count once"));
    }
    if values.len() < FEWEST {
        return Err(Error::caller(format!(
            "calibration pictures: expected at least {FEWEST} readable and different ones, found {}",
            values.len()
        )));
    }
    for i in suspects(&values.iter().map(|&v| (0, v)).collect::<Vec<_>>()).into_iter().take(5) {
        observer.warn(&format!(
            "`{}` is unlike the other calibration pictures: look at it, and calibrate without it if it is defective or shows another part",
            kept[i].display()
        ));
    }
    let mut model = model.clone();
    model.calibration.renew(values, peaks, false_reject_rate, model.settings.scoring)?;
    Ok(Recalibration { model, skipped })
}

/// Value, peak of the map and digest of a picture.
type Judged = Result<(f64, f64, String)>;
