//! Which runs a benchmark is made of.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::record::{Protocol, Record};
use crate::backbone::hex;
use crate::dataset::{Category, DataSet, Layout};
use crate::preprocess::{Fit, InputSize};
use crate::settings::{Preset, Settings, Sizes};
use crate::{Error, Result};

/// MVTec AD categories that the published code enlarges before the crop (algorithm.md, section 1).
const ENLARGED: [&str; 2] = ["toothbrush", "wood"];

/// A run to be done.
#[derive(Debug, Clone)]
pub struct PlannedRun<'a> {
    /// On what.
    pub category: &'a Category,
    /// Digest of its listing.
    pub listing: String,
    /// Name of what differs from the base settings.
    pub variant: String,
    /// How.
    pub settings: Settings,
    /// Whether a baseline is asked here: on features that no other run of this category and seed has.
    pub second_opinion: bool,
}

impl PlannedRun<'_> {
    /// Whether `record` is of this run.
    #[must_use]
    pub fn is(&self, record: &Record) -> bool {
        record.key() == (&self.category.name, &self.variant, self.settings.seed, &self.listing)
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> String {
        let variant = if self.variant == "base" { String::new() } else { format!(" {}", self.variant) };
        format!("{}{variant} seed {}", self.category.name, self.settings.seed)
    }
}

/// All runs: for each category every seed with the base settings, then every other of `variants`.
///
/// # Errors
/// Settings that do not go with the protocol.
pub fn plan<'a>(
    set: &'a DataSet,
    base: &Settings,
    variants: &[(String, Settings)],
    seeds: u64,
    protocol: Protocol,
) -> Result<Vec<PlannedRun<'a>>> {
    if protocol == Protocol::Paper && base.preset != Preset::Paper {
        return Err(Error::caller("protocol `paper`: expected the preset `paper`, found `fast`, whose heads have no epoch in common")
            .with_hint("leave out `--preset`, or use `--protocol honest`"));
    }
    let mut runs = Vec::new();
    for category in &set.categories {
        let listing = listing_digest(category);
        let all = std::iter::once(("base".to_owned(), base.clone())).chain(variants.iter().cloned());
        for (variant, settings) in all {
            let own = (&settings.feature_layers, settings.pooling) != (&base.feature_layers, base.pooling);
            let second_opinion = variant == "base" || own;
            for seed in 0..seeds {
                let mut settings = Settings { seed, ..settings.clone() };
                if set.layout == Layout::Mvtec && ENLARGED.contains(&category.name.as_str()) {
                    enlarge(&mut settings);
                }
                runs.push(PlannedRun {
                    category,
                    listing: listing.clone(),
                    variant: variant.clone(),
                    settings,
                    second_opinion,
                });
            }
        }
    }
    Ok(runs)
}

/// The shorter side before the crop of the published 288 becomes 329.
fn enlarge(settings: &mut Settings) {
    let published = Sizes::Fixed(vec![InputSize::square(288)]);
    if settings.preset == Preset::Paper
        && settings.sizes == published
        && settings.fit == (Fit::Crop { resize: 288 })
    {
        settings.fit = Fit::Crop { resize: 288 * 8 / 7 };
    }
}

/// A digest of the names and sizes of all files of a category: cheap, and another one where files came, went or grew.
#[must_use]
pub fn listing_digest(category: &Category) -> String {
    let mut digest = Sha256::new();
    let mut add = |path: &Path, name: &str| {
        digest.update(name);
        digest.update([0]);
        digest.update(std::fs::metadata(path).map_or(u64::MAX, |m| m.len()).to_le_bytes());
    };
    for path in &category.good {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        add(path, &name);
    }
    for sample in &category.test.samples {
        add(&sample.path, &sample.name);
        sample.mask.iter().for_each(|m| add(m, "mask"));
    }
    if let Some(saturation) = &category.test.saturation {
        digest.update(format!("{saturation:?}"));
    }
    hex(&digest.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_settings_alone_are_enlarged() {
        let mut paper = Settings::preset(Preset::Paper);
        enlarge(&mut paper);
        assert_eq!(paper.fit, Fit::Crop { resize: 329 });
        let mut other = Settings::preset(Preset::Paper);
        other.sizes = Sizes::Fixed(vec![InputSize::square(320)]);
        enlarge(&mut other);
        assert_eq!(other.fit, Fit::Crop { resize: 288 });
        let mut fast = Settings::preset(Preset::Fast);
        enlarge(&mut fast);
        assert_eq!(fast, Settings::preset(Preset::Fast));
    }
}
