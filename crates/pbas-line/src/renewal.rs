//! The record and its reviews -> a new threshold, without a picture being looked at again. Knows nothing of files or requests.
//!
//! The sample must be one of good parts as they come. Rejected parts that were good after all lie above the threshold, all of them:
//! calibrated from these alone it would rise beyond most defects. Accepted parts lie below it, all of them: from these alone it would
//! fall at every renewal. Only both together are good parts as they come, so within the chosen time every rejected part has to be reviewed:
//! the sample is all accepted parts, taken as good, and all rejected ones marked good, without those marked as defects.

use std::collections::HashSet;

use jiff::Timestamp;
use pbas::calibrate::{Calibration, Promise};
use pbas::detector::Verdict;
use pbas::recalibrate::FEWEST;
use pbas::settings::Scoring;
use pbas::train::SHORT_DIGEST;
use pbas::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::judge::hex;
use crate::record::{Part, Review, Said};

/// Parts named in a list of those whose verdict would change.
const NAMED: usize = 60;

/// Good parts out of a stretch of the record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Accepted parts, taken as good.
    pub accepted: usize,
    /// Rejected parts that a person marked as good.
    pub good_after_all: usize,
    /// Parts marked as defects, left out.
    pub defects: usize,
    /// Rejected parts that nobody has marked as good or as a defect; while there are any, there is no sample.
    pub open: usize,
    /// When the first of these was judged.
    pub first_open: Option<Timestamp>,
    /// Left out: byte for byte copies of others.
    pub copies: usize,
    /// Left out: pictures that the model was trained on.
    pub trained_on: usize,
    /// Left out: pictures that could not be judged.
    pub failed: usize,
    /// Names the sample: another part or another review gives another one.
    pub fingerprint: String,
    #[serde(skip)]
    values: Vec<f64>,
    #[serde(skip)]
    peaks: Vec<f64>,
}

/// What is to become of a part for a sample.
enum Use {
    Accepted,
    GoodAfterAll,
    Defect,
    Open,
}

fn use_of(said: &Said, review: Option<Review>) -> Use {
    match (said.verdict, review) {
        // A person who looked at an accepted part and found a defect is believed too.
        (_, Some(Review::Defect)) => Use::Defect,
        (Verdict::Normal, _) => Use::Accepted,
        (Verdict::Anomalous, Some(Review::Good)) => Use::GoodAfterAll,
        (Verdict::Anomalous, Some(Review::Skipped) | None) => Use::Open,
    }
}

impl Sample {
    /// The sample out of parts, all judged by one model, in order. `trained_on` has the digests of the pictures that it was trained on
    /// ([`pbas::detector::Provenance::picture_digests`]).
    #[must_use]
    pub fn of(parts: &[Part], trained_on: &[String]) -> Self {
        let mut sample = Self {
            accepted: 0,
            good_after_all: 0,
            defects: 0,
            open: 0,
            first_open: None,
            copies: 0,
            trained_on: 0,
            failed: 0,
            fingerprint: String::new(),
            values: Vec::new(),
            peaks: Vec::new(),
        };
        let mut digests = HashSet::new();
        let mut fingerprint = Sha256::new();
        for part in parts {
            let Some(said) = part.said.as_ref().filter(|s| s.value.is_finite() && s.peak.is_finite()) else {
                sample.failed += 1;
                continue;
            };
            let used = use_of(said, part.review);
            match used {
                Use::Defect => {
                    sample.defects += 1;
                    continue;
                }
                Use::Open => {
                    sample.open += 1;
                    sample.first_open.get_or_insert(part.time);
                    continue;
                }
                Use::Accepted | Use::GoodAfterAll => {}
            }
            let short: String = part.sha256.chars().take(SHORT_DIGEST).collect();
            if trained_on.binary_search(&short).is_ok() {
                sample.trained_on += 1;
            } else if !digests.insert(part.sha256.as_str()) {
                sample.copies += 1;
            } else {
                match used {
                    Use::GoodAfterAll => sample.good_after_all += 1,
                    _ => sample.accepted += 1,
                }
                fingerprint.update(part.id.to_le_bytes());
                fingerprint.update(said.value.to_le_bytes());
                fingerprint.update(said.peak.to_le_bytes());
                sample.values.push(said.value);
                sample.peaks.push(said.peak);
            }
        }
        sample.fingerprint = hex(&fingerprint.finalize()[..8]);
        sample
    }

    /// The calibration with its threshold set by this sample.
    ///
    /// # Errors
    /// Rejected parts that nobody reviewed, fewer than [`FEWEST`] parts, or a rate out of range.
    pub fn renew(&self, calibration: &Calibration, rate: f64, scoring: Scoring) -> Result<Calibration> {
        if self.open > 0 {
            return Err(Error::caller(format!(
                "recalibration: expected every rejected part of the time to be reviewed, found {} still open",
                self.open
            ))
            .with_hint("review them, or choose a time that ends before the first of them"));
        }
        if self.values.len() < FEWEST {
            return Err(Error::caller(format!(
                "recalibration: expected at least {FEWEST} good parts in the time, found {}",
                self.values.len()
            ))
            .with_hint("choose a longer time"));
        }
        let mut new = calibration.clone();
        new.renew(self.values.clone(), self.peaks.clone(), rate, scoring)?;
        Ok(new)
    }
}

/// Parts whose verdict would turn one way.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Turned {
    /// How many.
    pub parts: usize,
    /// Of these, marked good.
    pub marked_good: usize,
    /// Marked as defects.
    pub marked_defect: usize,
    /// Numbers of the first of them.
    pub named: Vec<i64>,
}

impl Turned {
    fn add(&mut self, part: &Part) {
        self.parts += 1;
        match part.review {
            Some(Review::Good) => self.marked_good += 1,
            Some(Review::Defect) => self.marked_defect += 1,
            Some(Review::Skipped) | None => {}
        }
        if self.named.len() < NAMED {
            self.named.push(part.id);
        }
    }
}

/// What would change on the record, and what is promised before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// What the model in service promises.
    pub before: Promised,
    /// What the new one would. A renewal ranks scores anew, so its threshold is on a scale of its own.
    pub after: Promised,
    /// The new threshold on the scale of the model in service.
    pub after_on_this_scale: f64,
    /// Parts judged again by both thresholds.
    pub parts: usize,
    /// Rejected, and would be accepted.
    pub to_normal: Turned,
    /// Accepted, and would be rejected.
    pub to_anomalous: Turned,
}

/// A promise, and whether its rate is proven.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Promised {
    /// The promise.
    #[serde(flatten)]
    pub promise: Promise,
    /// [`Promise::is_proven`].
    pub proven: bool,
}

impl From<&Calibration> for Promised {
    fn from(calibration: &Calibration) -> Self {
        let promise = calibration.promise();
        Self { promise, proven: promise.is_proven() }
    }
}

/// The highest value that a calibration accepts, by bisection: verdicts rise with values.
fn highest_accepted(calibration: &Calibration, scoring: Scoring) -> f64 {
    let rejected = |value: f64| calibration.judge_value(value, scoring).rejected;
    let mut step = 1.0;
    while step < 1e12 && (rejected(-step) || !rejected(step)) {
        step *= 2.0;
    }
    let (mut low, mut high) = (-step, step);
    for _ in 0..120 {
        let middle = 0.5 * (low + high);
        *(if rejected(middle) { &mut high } else { &mut low }) = middle;
    }
    low
}

impl Change {
    /// Of parts, all judged by `old`, if `new` had judged them.
    #[must_use]
    pub fn between(old: &Calibration, new: &Calibration, scoring: Scoring, parts: &[Part]) -> Self {
        let mut change = Self {
            before: Promised::from(old),
            after: Promised::from(new),
            after_on_this_scale: old.judge_value(highest_accepted(new, scoring), scoring).image_score,
            parts: 0,
            to_normal: Turned::default(),
            to_anomalous: Turned::default(),
        };
        for part in parts {
            let Some(said) = &part.said else { continue };
            change.parts += 1;
            let rejected = new.judge_value(said.value, scoring).rejected;
            match (said.verdict, rejected) {
                (Verdict::Anomalous, false) => change.to_normal.add(part),
                (Verdict::Normal, true) => change.to_anomalous.add(part),
                _ => {}
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORING: Scoring = Scoring::Rarity { top_share: 0.01 };

    fn calibration() -> Calibration {
        let heads = (0..3).map(|_| (0..40).map(f64::from).collect::<Vec<_>>().into()).collect();
        Calibration::new(heads, vec![0.5, 0.6].into(), true, 0.05, SCORING).unwrap()
    }

    fn part(id: i64, value: f64, verdict: Verdict, review: Option<Review>) -> Part {
        let said = Said {
            image_score: value,
            threshold: 1.0,
            p_value: 0.5,
            verdict,
            value,
            peak: 0.1,
            width: 10,
            height: 10,
            regions: vec![],
            decode_ms: 1.0,
            judge_ms: 1.0,
            thumbnail: None,
            map: None,
        };
        Part {
            id,
            time: Timestamp::from_second(id * 60).unwrap(),
            name: format!("{id}.png"),
            size: 1,
            sha256: format!("{:016x}{:048}", id + 0x1000, 0),
            model: "m".into(),
            model_digest: "d".into(),
            said: Some(said),
            error: None,
            review,
        }
    }

    fn good(ids: std::ops::Range<i64>) -> Vec<Part> {
        ids.map(|i| part(i, (i % 50) as f64 / 50.0, Verdict::Normal, None)).collect()
    }

    #[test]
    fn the_sample_is_good_parts_as_they_come() {
        let mut parts = good(0..40);
        parts.push(part(40, 1.5, Verdict::Anomalous, Some(Review::Good)));
        parts.push(part(41, 3.0, Verdict::Anomalous, Some(Review::Defect)));
        parts.push(part(42, 0.2, Verdict::Normal, Some(Review::Defect)));
        parts.push(part(43, 0.2, Verdict::Normal, Some(Review::Skipped)));
        parts.push(Part { sha256: parts[3].sha256.clone(), ..part(44, 0.06, Verdict::Normal, None) });
        parts.push(Part {
            said: None,
            error: Some("no picture".into()),
            ..part(45, 0.0, Verdict::Normal, None)
        });
        let trained = vec![parts[5].sha256[..16].to_owned()];
        let sample = Sample::of(&parts, &trained);
        assert_eq!((sample.accepted, sample.good_after_all, sample.defects), (40, 1, 2));
        assert_eq!((sample.copies, sample.trained_on, sample.failed, sample.open), (1, 1, 1, 0));
        assert_eq!(sample.values.len(), 41);
        let other = Sample::of(&parts[1..], &trained);
        assert_ne!(sample.fingerprint, other.fingerprint);
        assert_eq!(sample, Sample::of(&parts, &trained));
    }

    #[test]
    fn open_parts_and_too_few_are_refused() {
        let mut parts = good(0..40);
        parts.push(part(60, 1.5, Verdict::Anomalous, Some(Review::Skipped)));
        parts.push(part(61, 1.5, Verdict::Anomalous, None));
        let sample = Sample::of(&parts, &[]);
        assert_eq!((sample.open, sample.first_open), (2, Some(Timestamp::from_second(3600).unwrap())));
        let text = sample.renew(&calibration(), 0.05, SCORING).unwrap_err().to_string();
        assert!(text.contains("found 2 still open"), "{text}");
        let text = Sample::of(&parts[..4], &[]).renew(&calibration(), 0.05, SCORING).unwrap_err().to_string();
        assert!(text.contains("at least 5 good parts"), "{text}");
        assert!(Sample::of(&parts[..40], &[]).renew(&calibration(), 0.9, SCORING).is_err());
    }

    /// What a renewal promises is what the sample proves, and the verdicts that turn are told with what people said of them.
    #[test]
    fn changes_are_told_before_they_are_made() {
        let old = calibration();
        let mut parts = good(0..99);
        let sample = Sample::of(&parts, &[]);
        let new = sample.renew(&old, 0.01, SCORING).unwrap();
        parts.push(part(200, 0.5, Verdict::Anomalous, Some(Review::Good)));
        parts.push(part(201, 0.4, Verdict::Anomalous, Some(Review::Defect)));
        parts.push(part(202, 0.4, Verdict::Anomalous, None));
        parts.push(part(203, 50.0, Verdict::Normal, None));
        parts.push(part(204, 50.0, Verdict::Anomalous, None));
        let change = Change::between(&old, &new, SCORING, &parts);
        assert!(change.after.proven && change.after.promise.pictures == 99, "{change:?}");
        // The limit for 1 % lies just above the highest of 99; the old calibration's scores are the values themselves.
        let limit = change.after_on_this_scale;
        assert!((0.98..1.2).contains(&limit), "{change:?}");
        assert!(new.judge_value(limit + 1e-9, SCORING).rejected && !new.judge_value(limit, SCORING).rejected);
        assert!((highest_accepted(&old, SCORING) - old.threshold).abs() < 1e-9);
        let to_normal = Turned { parts: 3, marked_good: 1, marked_defect: 1, named: vec![200, 201, 202] };
        assert_eq!((change.parts, change.to_normal), (104, to_normal));
        assert_eq!(change.to_anomalous, Turned { parts: 1, named: vec![203], ..Turned::default() });
    }

    /// The argument of this module, by simulation: a threshold from rejected-and-marked-good parts alone rejects next to nothing, one
    /// from accepted parts alone rejects more at every renewal, the whole sample keeps to its rate.
    #[test]
    fn only_the_whole_sample_keeps_the_rate() {
        let mut random = crate::drift::tests::Random(11);
        let base = calibration();
        let renew = |values: Vec<f64>| {
            let mut c = base.clone();
            let peaks = vec![0.1; values.len()];
            c.renew(values, peaks, 0.05, SCORING).unwrap();
            c
        };
        let mut draw = |n: usize| -> Vec<f64> { (0..n).map(|_| random.gauss()).collect() };
        let rate = |c: &Calibration, new: &[f64]| {
            new.iter().filter(|v| c.judge_value(**v, SCORING).rejected).count() as f64 / new.len() as f64
        };
        let new = draw(20_000);
        let mut in_service = renew(draw(500));
        let (mut whole, mut accepted_alone) = (in_service.clone(), in_service.clone());
        for _ in 0..6 {
            let parts = draw(2000);
            let of = |c: &Calibration, keep: bool| -> Vec<f64> {
                parts.iter().copied().filter(|v| c.judge_value(*v, SCORING).rejected == keep).collect()
            };
            accepted_alone = renew(of(&accepted_alone, false));
            in_service =
                if of(&in_service, true).len() > 20 { renew(of(&in_service, true)) } else { in_service };
            whole = renew(parts);
        }
        let (whole, accepted_alone, rejected_alone) =
            (rate(&whole, &new), rate(&accepted_alone, &new), rate(&in_service, &new));
        println!(
            "wanted 0.05: whole {whole}, accepted alone {accepted_alone}, rejected alone {rejected_alone}"
        );
        assert!((whole - 0.05).abs() < 0.02, "{whole}");
        assert!(accepted_alone > 0.15, "{accepted_alone}");
        assert!(rejected_alone < 0.01, "{rejected_alone}");
    }
}
