//! How often people agree with what was rejected, and what the parts have in common that were rejected but good. Plain counts; a claim is
//! made only where chance hardly explains them, for all that was compared together.

use pbas::score::Region;
use pbas::statistics::SURPRISING;
use serde::Serialize;

use crate::record::{Part, Said};

/// Of a Gaussian's values this many deviations around the mean hold 95 %.
const Z: f64 = 1.96;
/// Hours of a day are told in pieces of so many.
const HOURS: i64 = 4;

/// Rejected parts by what people said of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Rejected parts.
    pub rejected: u64,
    /// Marked as defects: the person agrees with the model.
    pub defects: u64,
    /// Marked good after all: over-kills.
    pub good: u64,
    /// Looked at and left open.
    pub skipped: u64,
    /// Not looked at.
    pub open: u64,
    /// Share of defects among those marked as either, with the 95 % interval; none where nothing is marked.
    pub agreed: Option<Share>,
}

/// A share of a number of parts, with Wilson's 95 % interval (1927).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The share.
    pub share: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Share {
    /// `part` of `whole`; none of no parts.
    #[must_use]
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        if whole == 0 {
            return None;
        }
        let (n, p) = (whole as f64, part as f64 / whole as f64);
        let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some(Self { share: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0) })
    }
}

impl Agreement {
    /// From counts.
    #[must_use]
    pub fn of(defects: u64, good: u64, skipped: u64, open: u64) -> Self {
        let rejected = defects + good + skipped + open;
        Self { rejected, defects, good, skipped, open, agreed: Share::of(defects, defects + good) }
    }
}

/// A property by which parts are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// Where in the picture the highest region lies, in ninths.
    Place,
    /// How much of the picture the largest region's box covers.
    Size,
    /// The score in thresholds.
    Score,
    /// Hours of the day.
    Hour,
    /// The model's name.
    Model,
}

/// One value of a property: how many over-kills have it, and how many of those that they are compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Common {
    /// The property.
    pub property: Property,
    /// Its value, in words.
    pub value: String,
    /// Over-kills that have it.
    pub over_kills: usize,
    /// Of so many.
    pub of: usize,
    /// Parts compared with that have it: marked defects for what the map shows, accepted parts for hour and model.
    pub others: usize,
    /// Of so many.
    pub of_others: usize,
    /// Probability of as many or more by chance (Fisher's exact test, one-sided), times the number of comparisons.
    pub p_value: f64,
    /// Whether chance hardly explains it.
    pub beyond_chance: bool,
}

fn place(said: &Said) -> String {
    let highest = said.regions.iter().max_by(|a, b| a.peak.total_cmp(&b.peak));
    let Some(Region { x, y, width, height, .. }) = highest else { return "no region".into() };
    let third = |at: usize, size: usize, of: u32| ((2 * at + size) * 3 / (2 * of as usize).max(1)).min(2);
    let row = ["top", "middle", "bottom"][third(*y, *height, said.height)];
    let column = ["left", "centre", "right"][third(*x, *width, said.width)];
    format!("{row} {column}")
}

fn size(said: &Said) -> String {
    let whole = f64::from(said.width) * f64::from(said.height);
    let share = said.regions.iter().map(|r| (r.width * r.height) as f64 / whole).fold(0.0, f64::max);
    match share {
        0.0 => "no region",
        s if s < 0.001 => "below 0.1 % of the picture",
        s if s < 0.01 => "0.1 to 1 % of the picture",
        s if s < 0.05 => "1 to 5 % of the picture",
        _ => "5 % of the picture or more",
    }
    .into()
}

fn score(said: &Said) -> String {
    match said.image_score / said.threshold {
        r if r < 1.1 => "up to 1.1 thresholds",
        r if r < 1.5 => "1.1 to 1.5 thresholds",
        r if r < 2.0 => "1.5 to 2 thresholds",
        _ => "2 thresholds or more",
    }
    .into()
}

fn hour(part: &Part, offset: i64) -> String {
    let from = (part.time.as_second() + offset).div_euclid(3600).rem_euclid(24) / HOURS * HOURS;
    format!("{from:02}:00 to {:02}:00", from + HOURS)
}

/// What over-kills have in common, what stands out most first. `offset` has the seconds by which the place's clock is ahead of Greenwich.
#[must_use]
pub fn in_common(over_kills: &[Part], defects: &[Part], accepted: &[Part], offset: i64) -> Vec<Common> {
    let of_said = |f: fn(&Said) -> String| move |p: &Part| p.said.as_ref().map(f);
    let of_hour = move |p: &Part| Some(hour(p, offset));
    let of_model = |p: &Part| Some(p.model.clone());
    let mut found = Vec::new();
    found.extend(compare(Property::Place, over_kills, defects, of_said(place)));
    found.extend(compare(Property::Size, over_kills, defects, of_said(size)));
    found.extend(compare(Property::Score, over_kills, defects, of_said(score)));
    found.extend(compare(Property::Hour, over_kills, accepted, of_hour));
    found.extend(compare(Property::Model, over_kills, accepted, of_model));
    // Bonferroni: so many comparisons are made that one of them looks odd by chance.
    let comparisons = found.len() as f64;
    for common in &mut found {
        common.p_value = (common.p_value * comparisons).min(1.0);
        common.beyond_chance = common.p_value < SURPRISING;
    }
    found.sort_by(|a, b| a.p_value.total_cmp(&b.p_value).then(b.over_kills.cmp(&a.over_kills)));
    found
}

fn compare(
    property: Property,
    over_kills: &[Part],
    others: &[Part],
    value: impl Fn(&Part) -> Option<String>,
) -> Vec<Common> {
    let count = |parts: &[Part]| {
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        parts.iter().filter_map(&value).for_each(|v| *counts.entry(v).or_default() += 1);
        (counts.values().sum::<usize>(), counts)
    };
    let ((of, counts), (of_others, other_counts)) = (count(over_kills), count(others));
    let common = |(value, over_kills): (String, usize)| {
        let others = other_counts.get(&value).copied().unwrap_or(0);
        let p_value = as_many_or_more(over_kills, of, others, of_others);
        Common { property, value, over_kills, of, others, of_others, p_value, beyond_chance: false }
    };
    counts.into_iter().map(common).collect()
}

/// Fisher's exact test, one-sided: if `a + b` parts were dealt at random to groups of `n` and `m`, the probability that `a` or more of them
/// fall into the first.
fn as_many_or_more(a: usize, n: usize, b: usize, m: usize) -> f64 {
    let (total, with) = (n + m, a + b);
    let mut ln_factorial = vec![0.0; total + 1];
    for i in 1..=total {
        ln_factorial[i] = ln_factorial[i - 1] + (i as f64).ln();
    }
    let choose = |n: usize, k: usize| ln_factorial[n] - ln_factorial[k] - ln_factorial[n - k];
    let all = choose(total, with);
    let chance = |k: usize| (choose(n, k) + choose(m, with - k) - all).exp();
    (a..=with.min(n)).filter(|k| with - k <= m).map(chance).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pbas::detector::Verdict;

    use super::*;

    fn part(id: i64, x: usize, score: f64, hour: i64) -> Part {
        let region = Region { x, y: 10, width: 10, height: 10, area: 50, peak: 2.0 };
        let said = Said {
            image_score: score,
            threshold: 2.0,
            p_value: 0.001,
            verdict: Verdict::Anomalous,
            value: score,
            peak: 2.0,
            width: 300,
            height: 200,
            regions: vec![Region { peak: 1.0, x: 150, ..region }, region],
            decode_ms: 1.0,
            judge_ms: 1.0,
            thumbnail: None,
            map: None,
        };
        Part {
            id,
            time: Timestamp::from_second(hour * 3600).unwrap(),
            name: String::new(),
            size: 1,
            sha256: String::new(),
            model: "m".into(),
            model_digest: "d".into(),
            said: Some(said),
            error: None,
            review: None,
        }
    }

    #[test]
    fn agreement_is_a_share_with_its_doubt() {
        let a = Agreement::of(8, 2, 3, 4);
        let agreed = a.agreed.unwrap();
        assert_eq!((a.rejected, agreed.share), (17, 0.8));
        // Wilson's interval of 8 in 10 is 0.490 to 0.943.
        assert!((agreed.low - 0.490).abs() < 1e-3 && (agreed.high - 0.943).abs() < 1e-3, "{agreed:?}");
        assert_eq!(Agreement::of(0, 0, 1, 1).agreed, None);
    }

    #[test]
    fn the_exact_test_is_the_books() {
        // Fisher's tea: all four of four right, of eight cups: 1 in 70.
        assert!((as_many_or_more(4, 4, 0, 4) - 1.0 / 70.0).abs() < 1e-12);
        assert!((as_many_or_more(3, 4, 1, 4) - 17.0 / 70.0).abs() < 1e-12);
        assert!((as_many_or_more(0, 5, 3, 4) - 1.0).abs() < 1e-12);
        assert_eq!(as_many_or_more(2, 2, 0, 0), 1.0);
    }

    #[test]
    fn what_stands_out_is_found_and_what_does_not_is_not_claimed() {
        let over_kills: Vec<Part> = (0..20).map(|i| part(i, 0, 2.1, i)).collect();
        let defects: Vec<Part> =
            (0..20).map(|i| part(i, if i % 2 == 0 { 280 } else { 140 }, 2.1, i)).collect();
        let accepted: Vec<Part> = (0..200).map(|i| part(i, 0, 0.5, i)).collect();
        let found = in_common(&over_kills, &defects, &accepted, 0);
        let first = &found[0];
        assert_eq!((first.property, first.value.as_str()), (Property::Place, "top left"));
        assert_eq!((first.over_kills, first.of, first.others, first.of_others), (20, 20, 0, 20));
        assert!(first.beyond_chance && found[1..].iter().all(|c| !c.beyond_chance), "{found:#?}");
        assert!(
            in_common(&over_kills, &[], &[], 0).iter().all(|c| !c.beyond_chance),
            "nothing to compare with"
        );
        assert!(in_common(&[], &defects, &accepted, 0).is_empty());
    }

    #[test]
    fn hours_are_those_of_the_place() {
        assert_eq!(hour(&part(1, 0, 1.0, 3), 0), "00:00 to 04:00");
        assert_eq!(hour(&part(1, 0, 1.0, 3), 7200), "04:00 to 08:00");
        assert_eq!(hour(&part(1, 0, 1.0, 1), -7200), "20:00 to 24:00");
    }
}
