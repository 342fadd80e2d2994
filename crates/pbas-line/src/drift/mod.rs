//! Has the line moved away from what its model was calibrated on? An alarm whose chance of ever being false is bounded, and what to show of
//! the time since. Knows nothing of files or requests.
//!
//! Two things are watched of each model file, by the rule in [`martingale`]:
//! - the values ([`pbas::calibrate::Calibration::value`]) of **accepted** parts: light, lens, material, the part itself;
//! - the **share of rejected** parts, since what is rejected is missing among the accepted.
//!
//! Each is held to half of [`ALPHA`], so that the chance of ever a false alarm of either, as long as parts keep coming as they came at first,
//! is at most [`ALPHA`].

pub mod martingale;
mod ranks;

use pbas::statistics::{Robust, quantile_of_ascending};
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use martingale::{Direction, Martingale};
pub use ranks::Ranks;

/// Bound on the chance of ever a false alarm, for one model file.
pub const ALPHA: f64 = 0.01;
/// The capital at which either watch gives alarm: half of [`ALPHA`] each.
pub const ALARM_AT: f64 = 2.0 / ALPHA;
/// Parts that are only looked at before bets begin, where the model brings no sample of its own.
pub const REFERENCE: usize = 200;
/// Shares of the values of accepted parts that are shown.
pub const SHARES: [f64; 4] = [0.1, 0.5, 0.9, 0.99];
/// Least spread of values, so that a departure is a finite number of deviations.
const LEAST_DEVIATION: f64 = 1e-6;

/// What is known of a judged part here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Its number in the record.
    pub id: i64,
    /// Seconds since 1970.
    pub second: i64,
    /// [`pbas::detector::Prediction::value`].
    pub value: f64,
    /// Whether it was accepted.
    pub accepted: bool,
}

/// A watch over one kind of value.
#[derive(Debug, Clone)]
pub struct Watch {
    salt: String,
    ranks: Ranks,
    /// Values that come before bets begin.
    before: usize,
    martingale: Martingale,
    alarm: Option<Alarm>,
}

/// When a watch first gave alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// The part at which it did.
    pub part: i64,
    /// Seconds since 1970.
    pub second: i64,
    /// Towards where values moved.
    pub direction: Direction,
}

impl Watch {
    /// A watch. `sample` comes from before the first part; without one the first [`REFERENCE`] parts are looked at before bets begin.
    #[must_use]
    pub fn new(salt: &str, sample: &[f64]) -> Self {
        Self {
            salt: salt.to_owned(),
            ranks: Ranks::of(sample),
            before: if sample.is_empty() { REFERENCE } else { sample.len() },
            martingale: Martingale::default(),
            alarm: None,
        }
    }

    /// Takes a new value; values that are not finite are passed over.
    pub fn see(&mut self, part: i64, second: i64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.ranks.insert(value);
        if self.ranks.len() <= self.before {
            return;
        }
        let (below, equal) = self.ranks.rank(value);
        let n = self.ranks.len();
        let above = (n - below - equal) as f64;
        self.martingale.bet((above + tie_break(&self.salt, part) * equal as f64) / n as f64);
        if self.alarm.is_none() && self.martingale.capital() >= ALARM_AT {
            self.alarm = Some(Alarm { part, second, direction: self.martingale.direction() });
        }
    }

    /// What it says now.
    #[must_use]
    pub fn state(&self) -> WatchState {
        WatchState {
            capital: self.martingale.capital(),
            highest: self.martingale.highest(),
            alarm_at: ALARM_AT,
            seen: self.ranks.len(),
            before: self.before,
            alarm: self.alarm,
        }
    }
}

/// What a watch says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WatchState {
    /// The capital of the bets.
    pub capital: f64,
    /// The highest it has been.
    pub highest: f64,
    /// Where it gives alarm.
    pub alarm_at: f64,
    /// Values so far, those from before the first bet included.
    pub seen: usize,
    /// Values from before the first bet.
    pub before: usize,
    /// The alarm, once given; it stands until another model file comes into service.
    pub alarm: Option<Alarm>,
}

/// Uniform in 0..1 and the same at every reading of the record: from SHA-256 of a fixed salt and the part's number. It is drawn apart from
/// the values, which is all that the proof asks for.
fn tie_break(salt: &str, part: i64) -> f64 {
    let digest = Sha256::new().chain_update(salt).chain_update(part.to_le_bytes()).finalize();
    let bits = digest.iter().take(8).fold(0u64, |bits, b| bits << 8 | u64::from(*b));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// All that is watched of one model file.
#[derive(Debug, Clone)]
pub struct Drift {
    values: Watch,
    rejects: Watch,
    /// Values of accepted good parts from the calibration, if the model brings them.
    sample: Vec<f64>,
    parts: Vec<Seen>,
}

/// Values of accepted parts in a stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// Its first second, since 1970.
    pub from: i64,
    /// Parts judged.
    pub parts: usize,
    /// Those rejected.
    pub rejected: usize,
    /// Values at [`SHARES`] among the accepted ones; empty where there are none.
    pub quantiles: Vec<f64>,
}

/// What later values are compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reference {
    /// Whether these are the good parts of the calibration; otherwise the first accepted ones of this model in the record.
    pub calibration: bool,
    /// How many.
    pub parts: usize,
    /// Values at [`SHARES`].
    pub quantiles: Vec<f64>,
}

/// A part whose value lies far from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Moved {
    /// The part.
    pub id: i64,
    /// Its value.
    pub value: f64,
    /// How many robust deviations above the median of the reference; below it negative.
    pub deviations: f64,
}

impl Drift {
    /// Nothing seen yet. `digest` is the model file's; `sample` has the values of good parts from its calibration **that it accepts**
    /// (accepted ones alone are compared), or is empty.
    #[must_use]
    pub fn new(digest: &str, sample: Vec<f64>) -> Self {
        Self {
            values: Watch::new(&format!("values {digest}"), &sample),
            // How often defects come is not known from calibration, so the first parts have to tell.
            rejects: Watch::new(&format!("rejects {digest}"), &[]),
            sample,
            parts: Vec::new(),
        }
    }

    /// Takes the next part in the order of the record.
    pub fn see(&mut self, part: Seen) {
        self.parts.push(part);
        self.rejects.see(part.id, part.second, f64::from(u8::from(!part.accepted)));
        if part.accepted {
            self.values.see(part.id, part.second, part.value);
        }
    }

    /// The number of the last part.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.parts.last().map(|p| p.id)
    }

    /// The watch over values of accepted parts, and that over the share of rejected ones.
    #[must_use]
    pub fn states(&self) -> [WatchState; 2] {
        [self.values.state(), self.rejects.state()]
    }

    fn accepted(&self) -> impl DoubleEndedIterator<Item = &Seen> {
        self.parts.iter().filter(|p| p.accepted && p.value.is_finite())
    }

    fn reference_values(&self) -> Vec<f64> {
        if self.sample.is_empty() {
            self.accepted().take(REFERENCE).map(|p| p.value).collect()
        } else {
            self.sample.clone()
        }
    }

    /// What later values are compared with.
    #[must_use]
    pub fn reference(&self) -> Reference {
        let values = self.reference_values();
        Reference { calibration: !self.sample.is_empty(), parts: values.len(), quantiles: quantiles(&values) }
    }

    /// The latest `most` stretches of `seconds` that hold parts, in order. They begin at whole multiples after `offset` seconds, so that a
    /// day can be one of the place.
    #[must_use]
    pub fn stretches(&self, seconds: i64, offset: i64, most: usize) -> Vec<Stretch> {
        let seconds = seconds.max(1);
        let begin = |p: &Seen| (p.second + offset).div_euclid(seconds) * seconds - offset;
        let mut by_begin: std::collections::BTreeMap<i64, (usize, Vec<f64>)> = Default::default();
        for part in &self.parts {
            let (parts, values) = by_begin.entry(begin(part)).or_default();
            *parts += 1;
            if part.accepted {
                values.push(part.value);
            }
        }
        let skip = by_begin.len().saturating_sub(most);
        let stretch = |(from, (parts, values)): (i64, (usize, Vec<f64>))| Stretch {
            from,
            parts,
            rejected: parts - values.len(),
            quantiles: quantiles(&values),
        };
        by_begin.into_iter().skip(skip).map(stretch).collect()
    }

    /// Of the latest `recent` accepted parts the `most` that lie farthest from the reference, farthest first.
    #[must_use]
    pub fn moved(&self, recent: usize, most: usize) -> Vec<Moved> {
        let Some(usual) = Robust::of(&self.reference_values(), LEAST_DEVIATION) else { return Vec::new() };
        let moved = |p: &Seen| Moved { id: p.id, value: p.value, deviations: usual.above(p.value) };
        let mut all: Vec<Moved> = self.accepted().rev().take(recent).map(moved).collect();
        all.sort_by(|a, b| b.deviations.abs().total_cmp(&a.deviations.abs()).then(b.id.cmp(&a.id)));
        all.truncate(most);
        all
    }
}

fn quantiles(values: &[f64]) -> Vec<f64> {
    let mut ascending = values.to_vec();
    ascending.sort_unstable_by(f64::total_cmp);
    SHARES.iter().filter_map(|&share| quantile_of_ascending(&ascending, share)).collect()
}

#[cfg(test)]
pub(crate) mod tests;
