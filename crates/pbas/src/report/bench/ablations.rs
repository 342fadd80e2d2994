//! What leaving out or changing one thing does: variants against the base, run by run.

use std::collections::BTreeMap;

use super::figures::{Kind, METRICS, Metric, Table};
use crate::bench::Record;

/// The figures that are compared.
const SHOWN: [&str; 5] = ["image_auroc", "image_ap", "pixel_auroc", "aupro", "aupimo"];

/// A variant against the base.
#[derive(Debug, PartialEq)]
pub(super) struct Ablation {
    /// What was left out or changed.
    pub variant: String,
    /// Whose figures.
    pub figures: String,
    /// Whether test labels have chosen them.
    pub oracle: bool,
    /// Pairs of runs of one category and seed.
    pub pairs: usize,
    /// One for each of [`shown`].
    pub cells: Vec<Option<Difference>>,
}

/// Of the pairs that have a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    /// Mean of the variant.
    pub mean: f64,
    /// By how much it is above the base's, on average.
    pub above: f64,
}

impl Difference {
    /// In per cent, with the difference in points: `97.31 (-0.42)`.
    pub fn text(self) -> String {
        format!("{:.2} ({:+.2})", 100.0 * self.mean, 100.0 * self.above)
    }
}

/// The figures that are compared.
pub(super) fn shown() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(|m| SHOWN.contains(&m.key))
}

/// Every kind of figures of a variant against the same kind of the base. Only runs of one category and seed are compared, so a variant that
/// is not finished is compared with its counterparts alone.
pub(super) fn ablations(records: &[&Record], table: &Table) -> Vec<Ablation> {
    let base: BTreeMap<(&str, u64), &Record> =
        records.iter().filter(|r| r.variant == "base").map(|r| ((r.category.as_str(), r.seed), *r)).collect();
    let of_kind = |kind: &Kind| {
        let base_kind = table.kinds.iter().find(|k| k.is_base() && k.same_source(kind))?;
        let of = records.iter().filter(|r| r.variant == kind.variant());
        let pairs: Vec<(&Record, &Record)> =
            of.filter_map(|r| Some((*r, *base.get(&(r.category.as_str(), r.seed))?))).collect();
        let cell = |metric: &Metric| {
            let both =
                |(v, b): &(&Record, &Record)| Some((kind.figure(v, metric)?, base_kind.figure(b, metric)?));
            let both: Vec<(f64, f64)> = pairs.iter().filter_map(both).collect();
            let mean = |of: &dyn Fn(&(f64, f64)) -> f64| both.iter().map(of).sum::<f64>() / both.len() as f64;
            (!both.is_empty()).then(|| Difference { mean: mean(&|p| p.0), above: mean(&|p| p.0 - p.1) })
        };
        Some(Ablation {
            variant: kind.variant().to_owned(),
            figures: base_kind.name.clone(),
            oracle: kind.is_oracle(),
            pairs: pairs.len(),
            cells: shown().map(cell).collect(),
        })
    };
    let all = table.kinds.iter().filter(|k| !k.is_base()).filter_map(of_kind);
    all.filter(|a| a.pairs > 0).collect()
}
