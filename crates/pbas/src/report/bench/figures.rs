//! Means and spreads over seeds, by category and kind of figures.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::bench::{Protocol, Record};
use crate::compare::Opinion;
use crate::eval::Summary;

/// A figure of a run.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name in JSON and CSV.
    pub key: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// From the figures of a model.
    pub of: fn(&Summary) -> Option<f64>,
    /// From those of a second opinion, which has some of them.
    opinion: fn(&Opinion) -> Option<f64>,
}

/// All figures that are compared; from 0 to 1, higher is better.
pub const METRICS: [Metric; 11] = [
    Metric { key: "image_auroc", label: "image AUROC", of: |s| s.image_auroc, opinion: |o| o.image_auroc },
    Metric { key: "image_ap", label: "image AP", of: |s| s.image_ap, opinion: |o| o.image_ap },
    Metric { key: "image_f1_max", label: "image F1 max", of: |s| s.image_f1_max, opinion: |_| None },
    Metric { key: "pixel_auroc", label: "pixel AUROC", of: |s| s.pixel_auroc, opinion: |o| o.pixel_auroc },
    Metric { key: "pixel_ap", label: "pixel AP", of: |s| s.pixel_ap, opinion: |_| None },
    Metric { key: "pixel_f1_max", label: "pixel F1 max", of: |s| s.pixel_f1_max, opinion: |_| None },
    Metric { key: "aupro", label: "AUPRO 0.3", of: |s| s.aupro, opinion: |o| o.aupro },
    Metric { key: "aupro_0.05", label: "AUPRO 0.05", of: |s| s.aupro_005, opinion: |_| None },
    Metric { key: "aupimo", label: "AU-PIMO", of: |s| s.aupimo, opinion: |_| None },
    Metric {
        key: "sensitivity_at_0",
        label: "found at 0 % false rejects",
        of: |s| s.sensitivity_at_0,
        opinion: |_| None,
    },
    Metric {
        key: "sensitivity_at_1_percent",
        label: "found at 1 % false rejects",
        of: |s| s.sensitivity_at_1_percent,
        opinion: |_| None,
    },
];

/// Mean and spread of some runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of the sample; absent for a single one.
    pub deviation: Option<f64>,
    /// How many.
    pub runs: usize,
}

impl Spread {
    /// Of these values; `None` without any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Some(Self { mean, deviation: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()), runs: n })
    }
}

/// One kind of figures: of a method under a protocol, or of a variant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kind {
    /// For people.
    pub name: String,
    /// For CSV.
    pub key: String,
    variant: String,
    source: Source,
}

/// Where the figures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The model that training ends with.
    Last,
    /// The epoch that test labels choose.
    Oracle,
    /// Nearest neighbours.
    Nearest,
}

impl Kind {
    /// A figure of a run, if the run is of this kind.
    pub fn figure(&self, record: &Record, metric: &Metric) -> Option<f64> {
        if record.variant != self.variant {
            return None;
        }
        match self.source {
            Source::Last => (metric.of)(&record.result.summary),
            Source::Oracle => (metric.of)(&record.oracle.as_ref()?.summary),
            Source::Nearest => (metric.opinion)(record.result.compared.first()?),
        }
    }

    /// What was left out or changed; `base` for nothing.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Whether the figures of both come from the same place.
    pub fn same_source(&self, other: &Self) -> bool {
        self.source == other.source
    }

    /// Whether it is of the settings of the benchmark, with nothing left out or changed.
    pub fn is_base(&self) -> bool {
        self.variant == "base"
    }

    /// Whether test labels have chosen it.
    pub fn is_oracle(&self) -> bool {
        self.source == Source::Oracle
    }
}

/// Every figure of every category and kind.
#[derive(Debug)]
pub(super) struct Table {
    /// Sorted.
    pub categories: Vec<String>,
    /// Those that there are; base first.
    pub kinds: Vec<Kind>,
    /// `cells[kind][metric][category]`.
    pub cells: Vec<Vec<Vec<Option<Spread>>>>,
    /// `means[kind][metric]`: over categories, the spread over seeds that all categories have.
    pub means: Vec<Vec<Option<Spread>>>,
}

impl Table {
    pub fn of(records: &[&Record]) -> Self {
        let categories: BTreeSet<String> = records.iter().map(|r| r.category.clone()).collect();
        let categories: Vec<String> = categories.into_iter().collect();
        let kinds = kinds(records);
        let of_category = |kind: &Kind, metric: &Metric, category: &String| {
            let of = records.iter().filter(|r| r.category == *category);
            Spread::of(&of.filter_map(|r| kind.figure(r, metric)).collect::<Vec<_>>())
        };
        let cells: Vec<Vec<Vec<Option<Spread>>>> = kinds
            .iter()
            .map(|k| {
                METRICS.iter().map(|m| categories.iter().map(|c| of_category(k, m, c)).collect()).collect()
            })
            .collect();
        let means = kinds.iter().map(|k| METRICS.iter().map(|m| mean(records, k, m)).collect()).collect();
        Self { categories, kinds, cells, means }
    }

    /// The place of a kind of the base settings.
    pub fn base(&self, source: Source) -> Option<usize> {
        self.kinds.iter().position(|k| k.is_base() && k.source == source)
    }

    /// The kinds that tables of categories show: those of the base settings, or all where there are none.
    pub fn shown(&self) -> Vec<usize> {
        let all = 0..self.kinds.len();
        let base: Vec<usize> = all.clone().filter(|&k| self.kinds[k].is_base()).collect();
        if base.is_empty() { all.collect() } else { base }
    }
}

/// For each seed the mean over categories; of these, for the seeds with as many categories as any, mean and spread.
fn mean(records: &[&Record], kind: &Kind, metric: &Metric) -> Option<Spread> {
    let mut by_seed: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for record in records {
        if let Some(v) = kind.figure(record, metric) {
            by_seed.entry(record.seed).or_default().push(v);
        }
    }
    let most = by_seed.values().map(Vec::len).max()?;
    let whole = by_seed.values().filter(|v| v.len() == most);
    Spread::of(&whole.map(|v| v.iter().sum::<f64>() / v.len() as f64).collect::<Vec<_>>())
}

fn kinds(records: &[&Record]) -> Vec<Kind> {
    let mut variants: Vec<&str> = records.iter().map(|r| r.variant.as_str()).collect();
    variants.sort_unstable_by_key(|v| (*v != "base", *v));
    variants.dedup();
    let paper = records.iter().any(|r| r.protocol == Protocol::Paper);
    let mut kinds = Vec::new();
    for variant in variants {
        let of: Vec<_> = records.iter().filter(|r| r.variant == variant).collect();
        let suffix = if variant == "base" { String::new() } else { format!(", {variant}") };
        let key = if variant == "base" { String::new() } else { format!("_{variant}") };
        let mut push = |name: &str, word: &str, source| {
            kinds.push(Kind {
                name: format!("{name}{suffix}"),
                key: format!("{word}{key}"),
                variant: variant.into(),
                source,
            });
        };
        push(if paper { "pbas, last epoch" } else { "pbas, honest" }, "pbas", Source::Last);
        if of.iter().any(|r| r.oracle.is_some()) {
            push("pbas, oracle epoch", "oracle", Source::Oracle);
        }
        if of.iter().any(|r| !r.result.compared.is_empty()) {
            push("nearest neighbours (PatchCore-style)", "nearest", Source::Nearest);
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_those_of_a_sample() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[0.5]), Some(Spread { mean: 0.5, deviation: None, runs: 1 }));
        let s = Spread::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((s.mean, s.deviation, s.runs), (2.0, Some(1.0), 3));
    }
}
