//! Which false-reject rates a number of good pictures can support.

use serde::Serialize;

/// Rates that are asked for on production lines.
const RATES: [f64; 6] = [0.1, 0.05, 0.02, 0.01, 0.005, 0.001];

/// A wanted false-reject rate and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WantedRate {
    /// The wanted share of good parts rejected.
    pub rate: f64,
    /// Distinct good pictures that it needs.
    pub pictures: usize,
    /// How many more than there are.
    pub more: usize,
}

/// What the count of good pictures supports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Support {
    /// Good pictures that count: readable, and each picture once.
    pub pictures: usize,
    /// The finest rate that can be guaranteed.
    pub finest_rate: f64,
    /// Rates often wanted.
    pub wanted: Vec<WantedRate>,
}

/// Good pictures that a guaranteed false-reject rate needs. The threshold is then one of their scores: a new good picture is
/// above the highest of `n` with probability `1 / (n + 1)` at most, if it is drawn as they were (exchangeability: each of
/// `n + 1` is the highest with the same chance). So `1 / (n + 1) <= rate`.
#[must_use]
pub fn pictures_for(rate: f64) -> usize {
    // Rounding must not ask for one more: 1 / 0.01 may come out a little above 100.
    ((1.0 / rate - 1e-6).ceil() as usize).saturating_sub(1).max(1)
}

impl Support {
    /// Of so many distinct good pictures.
    #[must_use]
    pub fn of(pictures: usize) -> Self {
        let wanted = |&rate: &f64| {
            let needed = pictures_for(rate);
            WantedRate { rate, pictures: needed, more: needed.saturating_sub(pictures) }
        };
        Self {
            pictures,
            finest_rate: 1.0 / (pictures as f64 + 1.0),
            wanted: RATES.iter().map(wanted).collect(),
        }
    }

    /// In plain words.
    #[must_use]
    pub fn text(&self) -> String {
        let n = self.pictures;
        let finest = format!(
            "{n} distinct good pictures support a guaranteed false-reject rate of 1 in {} ({}) at the finest",
            n + 1,
            percent(self.finest_rate)
        );
        let more = pictures_for(0.01).saturating_sub(n);
        if more == 0 { finest } else { format!("{finest}; 1 % needs {more} more") }
    }
}

/// A share in per cent with two digits that count.
#[must_use]
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p >= 9.95 => format!("{p:.0} %"),
        p if p >= 0.995 => format!("{p:.1} %"),
        p => format!("{p:.2} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_rates_need() {
        for (rate, needed) in [(0.1, 9), (0.05, 19), (0.02, 49), (0.01, 99), (0.005, 199), (0.001, 999)] {
            assert_eq!(pictures_for(rate), needed, "{rate}");
            assert!(1.0 / (needed as f64 + 1.0) <= rate + 1e-12, "{needed} pictures support {rate}");
            assert!(1.0 / needed as f64 > rate, "one fewer does not");
        }
        let s = Support::of(31);
        assert_eq!(
            s.text(),
            "31 distinct good pictures support a guaranteed false-reject rate of 1 in 32 (3.1 %) at the \
                              finest; 1 % needs 68 more"
        );
        assert_eq!(s.wanted[3], WantedRate { rate: 0.01, pictures: 99, more: 68 });
        assert!(Support::of(99).text().ends_with("1 in 100 (1.0 %) at the finest"));
        assert_eq!(percent(0.001), "0.10 %");
    }
}
