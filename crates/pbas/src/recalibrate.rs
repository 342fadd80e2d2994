//! New good pictures -> a new threshold, without training. None of the heads has seen them, so they are one sample for all heads
//! together, and the promise needs fewer of them than fold heads need.

use std::path::{Path, PathBuf};

use pbas_nn::linalg::Threads;
use rayon::prelude::*;

use crate::calibrate::{Judgement, SUSPECTS_NAMED, peak, suspects};
use crate::detector::{Detector, Model, Scratch};
use crate::doctor::report::Kind;
use crate::doctor::{self, Look};
use crate::image::read_rgb_and_bytes;
use crate::statistics::{SURPRISING, as_many_or_more};
use crate::train::observer::Observer;
use crate::train::short_digest;
use crate::words::{counted, listed_to, percent};
use crate::{Error, ErrorKind, Result};

/// Fewest pictures that make a sample.
pub const FEWEST: usize = 5;
/// How far above the others a rarity stands out, in robust deviations: rarities of good pictures have an exponential tail.
const ODD_DEVIATIONS: f64 = 6.0;
/// A picture stands out if good pictures as many as these would hardly hold one so rare, by this probability.
const DOUBT: f64 = 0.05;

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
    let judge = |scratch: &mut Scratch, path: &PathBuf| -> Result<Result<Judged>> {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "calibration was stopped"));
        }
        let mut read = || -> Result<Judged> {
            let (picture, bytes) = read_rgb_and_bytes(path, &detector.decode_options())?;
            let (scores, map, _) = detector.scores(&picture, scratch, Threads::One)?;
            if !scores.iter().chain([&peak(&map)]).all(|v| v.is_finite()) {
                return Err(Error::input(format!("the scores of `{}` are not all numbers", path.display())));
            }
            let calibration = &model.calibration;
            Ok(Judged {
                value: calibration.value(&scores, model.settings.scoring),
                peak: peak(&map),
                before: calibration.judge(&scores, model.settings.scoring),
                look: Look::at(&bytes, &picture, false)?,
            })
        };
        let judged = read();
        observer.advance(1);
        Ok(judged)
    };
    let judged: Vec<Result<Judged>> =
        pictures.par_iter().with_max_len(1).map_init(Scratch::default, judge).collect::<Result<_>>()?;
    observer.end();

    let (mut kept, mut seen, mut skipped): (Vec<(&PathBuf, Judged)>, _, _) = (vec![], vec![], vec![]);
    let (mut digests, mut copies) = (std::collections::HashSet::new(), 0);
    for (path, result) in pictures.iter().zip(judged) {
        match result {
            Err(e) => {
                observer.warn(&format!("left out: {}", crate::error::chain(&e)));
                skipped.push((path.clone(), e));
            }
            Ok(j) if trained_on(model, &j.look) => seen.push(path),
            Ok(j) if !digests.insert(j.look.pixels_sha256) => copies += 1,
            Ok(j) => kept.push((path, j)),
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
        observer.warn(&format!("{copies} pictures are pixel for pixel copies of others and count once"));
    }
    if kept.len() < FEWEST {
        return Err(Error::caller(format!(
            "calibration pictures: expected at least {FEWEST} readable and different ones, found {}",
            kept.len()
        )));
    }
    warn_of_odd_ones(&kept, model, observer);
    let (values, peaks) = kept.iter().map(|(_, j)| (j.value, j.peak)).unzip();
    let mut model = model.clone();
    model.calibration.renew(values, peaks, false_reject_rate, model.settings.scoring)?;
    Ok(Recalibration { model, skipped })
}

/// A picture, judged and looked at.
struct Judged {
    /// What the heads together give ([`crate::calibrate::Calibration::value`]).
    value: f64,
    /// Peak of its map.
    peak: f64,
    /// What the model says of it before it is recalibrated.
    before: Judgement,
    look: Look,
}

/// Whether the model was trained on a picture, whatever file it now lies in.
fn trained_on(model: &Model, look: &Look) -> bool {
    let known = &model.provenance.picture_digests;
    [look.sha256, look.pixels_sha256].iter().any(|d| known.binary_search(&short_digest(d)).is_ok())
}

/// Names what would spoil the threshold: pictures that the model as it was rejects, if they are more than chance allows or too
/// rare for so few; pictures unlike the others; and what the doctor finds.
fn warn_of_odd_ones(kept: &[(&PathBuf, Judged)], model: &Model, observer: &dyn Observer) {
    let (n, rate) = (kept.len(), model.calibration.false_reject_rate);
    let judged: Vec<(f64, Judgement)> = kept.iter().map(|(_, j)| (j.value, j.before)).collect();
    let (too_many, odd) = odd_ones(&judged, rate);
    if let Some(rejected) = too_many {
        observer.warn(&format!(
            "the model as it was rejects {rejected} of {}, more than chance allows at {}: they show defects or another part, or good \
             parts look otherwise than those it was trained on",
            counted(n, "calibration picture"),
            percent(rate)
        ));
    }
    if !odd.is_empty() {
        let named: Vec<String> = odd.iter().map(|&i| format!("`{}`", kept[i].0.display())).collect();
        observer.warn(&format!(
            "unlike good parts, most unlike first: {}; look at them, and calibrate without those that are defective or show \
             another part: they raise the threshold",
            listed_to(&named, SUSPECTS_NAMED)
        ));
    }
    let paths: Vec<&Path> = kept.iter().map(|(path, _)| path.as_path()).collect();
    let looks = kept.iter().map(|(_, j)| j.look.clone()).collect();
    // Too few for a training may be enough here.
    let said = doctor::training::warnings(&paths, looks, &model.settings, &[Kind::TooFew]);
    said.iter().for_each(|line| observer.warn(line));
}

/// How many pictures the model as it was rejects, if they are more than chance allows at its rate; and which pictures stand out,
/// the highest first: those far above the others, and those that the model finds too rare for so few. Of each picture its value and
/// what the model as it was says.
fn odd_ones(judged: &[(f64, Judgement)], rate: f64) -> (Option<usize>, Vec<usize>) {
    let n = judged.len();
    let rejected = judged.iter().filter(|(_, j)| j.rejected).count();
    let too_many = (as_many_or_more(rejected, n, rate) < SURPRISING).then_some(rejected);
    let values: Vec<(usize, f64)> = judged.iter().map(|&(value, _)| (0, value)).collect();
    let mut odd = suspects(&values, ODD_DEVIATIONS);
    let rare = |j: &Judgement| j.p_value < DOUBT / n as f64 || (too_many.is_some() && j.rejected);
    odd.extend((0..n).filter(|&i| rare(&judged[i].1)));
    odd.sort_by(|&a, &b| judged[b].0.total_cmp(&judged[a].0).then(a.cmp(&b)));
    odd.dedup();
    (too_many, odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_stand_out_are_found_by_both_ways_and_chance_is_allowed_for() {
        let judged = |p_values: &[f64]| -> Vec<(f64, Judgement)> {
            let of = |&p: &f64| {
                let rarity = -p.log10();
                (
                    rarity,
                    Judgement { image_score: rarity, rank_score: rarity, p_value: p, rejected: p < 0.01 },
                )
            };
            p_values.iter().map(of).collect()
        };
        let usual: Vec<f64> = (1..=20).map(|i| f64::from(i) / 21.0).collect();
        assert_eq!(odd_ones(&judged(&usual), 0.01), (None, vec![]));
        // One just above the threshold is chance in twenty, one far above is not.
        let with = |more: &[f64]| odd_ones(&judged(&[&usual[..], more].concat()), 0.01);
        assert_eq!(with(&[0.009]), (None, vec![]));
        assert_eq!(with(&[1e-5]), (None, vec![20]));
        assert_eq!(with(&[0.009, 1e-4, 0.008]), (Some(3), vec![21, 22, 20]));
        // So few have no robust spread; the model's own word counts.
        assert_eq!(odd_ones(&judged(&[0.5, 0.2, 0.9, 1e-3, 0.4]), 0.01), (None, vec![3]));
        // Where everything is rejected, it is said once, and all are named.
        let (too_many, odd) = odd_ones(&judged(&[1e-3; 6]), 0.01);
        assert_eq!((too_many, odd.len()), (Some(6), 6));
    }
}
