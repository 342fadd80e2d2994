//! Everything that shapes training, with the two presets. A model file keeps the settings it was trained with.

use pbas_nn::Precision;
use serde::{Deserialize, Serialize};

use crate::calibrate::proves;
use crate::head::centers::CENTER_MOMENTUM;
use crate::patch::Pooling;
use crate::preprocess::{Fit, InputSize};
use crate::roi::Roi;
pub use crate::sizes::Sizes;
use crate::{Error, Result};

/// One good part in a hundred.
pub const DEFAULT_FALSE_REJECT_RATE: f64 = 0.01;

/// A named set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Two views, five fold heads each (three of very few pictures, or where they prove more), neighbour centres; one to three minutes on two cores (docs/recipe.md).
    Fast,
    /// The published settings to the letter (algorithm.md, section 1), the last epoch kept.
    Paper,
}

/// Into how many folds the good pictures are dealt: as many heads a view, each trained without one of them. 1 keeps a share of the pictures out
/// of training instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<usize>", into = "Option<usize>")]
pub enum Folds {
    /// Five, so that each head sees four fifths of the pictures; three of fewer than ten pictures, and where three prove the wanted
    /// false-reject rate and five do not (docs/recipe.md).
    Auto,
    /// So many.
    Fixed(usize),
}

/// Folds where each head is to see as many pictures as it can.
const MORE_FOLDS: usize = 5;
/// Fewer different good pictures are not dealt into [`MORE_FOLDS`]: a single one would be left for a fold, and a head must know how much scores of good
/// pictures differ.
const FEWEST_FOR_MORE: usize = 10;
/// Folds otherwise, which prove most.
const FOLDS: usize = 3;

impl Folds {
    /// How many folds so many different good pictures are dealt into, where there is one for each, in a training for a wanted false-reject rate.
    #[must_use]
    pub fn of(self, pictures: usize, false_reject_rate: f64) -> usize {
        let proves = |folds: usize| proves(&fold_sizes(pictures, folds), false_reject_rate);
        match self {
            Self::Auto if pictures < FEWEST_FOR_MORE => FOLDS,
            Self::Auto if proves(FOLDS) && !proves(MORE_FOLDS) => FOLDS,
            Self::Auto => MORE_FOLDS,
            Self::Fixed(folds) => folds,
        }
    }

    /// The folds that prove a rate with the fewest pictures.
    #[must_use]
    pub fn proving_most(self) -> usize {
        match self {
            Self::Auto => FOLDS,
            Self::Fixed(folds) => folds,
        }
    }
}

/// How many pictures each fold holds.
#[must_use]
pub fn fold_sizes(pictures: usize, folds: usize) -> Vec<usize> {
    (0..folds).map(|f| pictures / folds + usize::from(f < pictures % folds)).collect()
}

impl From<Option<usize>> for Folds {
    fn from(folds: Option<usize>) -> Self {
        folds.map_or(Self::Auto, Self::Fixed)
    }
}

impl From<Folds> for Option<usize> {
    fn from(folds: Folds) -> Self {
        match folds {
            Folds::Auto => None,
            Folds::Fixed(folds) => Some(folds),
        }
    }
}

/// Which changed copies of the good pictures are trained on beside them (`train/augment.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Augment {
    /// One copy: a little rotated, shifted, brighter or darker, out of focus.
    Light,
    /// Three copies, changed two to three times as much, with noise.
    Strong,
    /// Three copies rotated by any angle: for parts without orientation.
    Rotations,
}

/// What one step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    /// Whole pictures, all their patches; an epoch is one pass in random order.
    Pictures(usize),
    /// Patches drawn at random over all training pictures.
    Patches(usize),
}

/// How long a head trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// Passes over the training pictures.
    Epochs(u64),
    /// Steps.
    Steps(u64),
    /// As many steps as a pass over the patches of the training pictures takes, within bounds: much that is to be learned takes longer (docs/recipe.md).
    Pass {
        /// Fewest steps.
        least: u64,
        /// Most steps.
        most: u64,
    },
}

impl Length {
    /// Steps of a training in which a pass over the training pictures takes `pass` steps.
    #[must_use]
    pub fn steps(self, pass: u64) -> u64 {
        match self {
            Self::Epochs(n) => n * pass,
            Self::Steps(n) => n,
            Self::Pass { least, most } => pass.clamp(least, most),
        }
    }
}

/// Where the centres of the boundary come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CenterRule {
    /// One a position, by feature alignment before training (published).
    Positions,
    /// One for all: the mean over all training patches. For comparison.
    Mean,
    /// The nearest of so many other patches of the batch, which are random patches of the training set.
    Neighbours(usize),
}

/// Where synthetic anomalies are put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Synthesis {
    /// Beyond each feature on the ray from its centre (AFS, published).
    #[default]
    Rays,
    /// In a random direction: Gaussian noise of this standard deviation, the same in every entry of a projected feature, whatever its
    /// centre. For comparison.
    Noise(f32),
}

/// How patch scores become scores of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// Published: the largest patch score, a sigmoid between 0 and 1. One view.
    Sigmoid,
    /// How rare the picture would be among good ones, as `-log10` of a probability: per head and view the mean of the highest
    /// share of the patch logits, added over views by their sides; of the heads' ranks among the good pictures that each has not
    /// seen, what more than half of the heads reach.
    Rarity {
        /// Share of the patches, above 0 and at most 1.
        top_share: f64,
    },
}

/// How one head is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadSettings {
    /// Hidden units of the discriminator.
    pub hidden: usize,
    /// What a step takes.
    pub batch: Batch,
    /// How long.
    pub length: Length,
    /// Where centres come from.
    pub centers: CenterRule,
    /// Weight of a batch's mean in its centre, 0 to 1, with centres by position; 0 keeps those of the first batch.
    #[serde(default = "published_momentum", skip_serializing_if = "is_published_momentum")]
    pub center_momentum: f32,
    /// Where synthetic anomalies are put.
    #[serde(default, skip_serializing_if = "is_default")]
    pub synthesis: Synthesis,
    /// Whether the discriminator is trained (RBO) and its logit is the score. Without it the boundary loss alone trains the projection, and the
    /// score is the distance to the centre: for comparison, and in no model file.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub refinement: bool,
    /// `k` is drawn evenly from here to there for each patch; equal ends fix it.
    pub synthesis_scale: [f32; 2],
    /// Weight of `L_abl` in the loss.
    pub boundary_weight: f32,
    /// Learning rate of the projection (Adam).
    pub projection_rate: f32,
    /// Learning rate of the discriminator (AdamW).
    pub discriminator_rate: f32,
    /// Coupled L2 of the projection.
    pub projection_decay: f32,
    /// Decoupled decay of the discriminator.
    pub discriminator_decay: f32,
    /// Whether the rates fall to zero along a half cosine.
    pub cosine: bool,
    /// Decay of the running average of the weights, which is what is kept; `None` keeps the last weights.
    pub averaging: Option<f32>,
    /// Whether features enter as z-scores of the training patches.
    pub standardize: bool,
}

/// The bank of good patches beside the heads of a view ([`crate::neighbours`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NeighbourSettings {
    /// Patches a view, over all folds.
    pub rows: usize,
    /// What a deviation of the distance counts, in logits.
    pub weight: f64,
    /// What a deviation of the distance above what is usual at the nearest patch counts, in logits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub usual_weight: f64,
    /// What a deviation of the distance counts in the map, in logits, where what is usual counts nothing: to outline a defect the plain distance says more
    /// than to find it. `None`: the map counts as the score does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub map_weight: Option<f64>,
    /// With a weight of its own there: a head's logit counts at most this in the map, above 0. One so sure of a patch says no more by being surer, and would
    /// outshine what the distance says of the others. `None`: as much as it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub map_limit: Option<f64>,
}

impl Default for NeighbourSettings {
    /// The preset `fast` (docs/recipe.md).
    fn default() -> Self {
        Self { rows: 2000, weight: 0.5, usual_weight: 1.0, map_weight: Some(3.0), map_limit: Some(8.0) }
    }
}

/// By what the maps of the views count in the model's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapViews {
    /// Alike.
    #[default]
    Alike,
    /// By their area: a smaller view sees what is wrong as well, and less of where.
    Area,
}

/// All settings of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What the settings started from.
    pub preset: Preset,
    /// Picture sizes.
    pub sizes: Sizes,
    /// How a picture is laid into a size.
    pub fit: Fit,
    /// Feature layers by name, in the order in which they are laid one after the other.
    pub feature_layers: Vec<String>,
    /// How neighbourhoods become features.
    pub pooling: Pooling,
    /// Heads a view, each trained without one fold of the good pictures. A model's are fixed.
    pub folds: Folds,
    /// Training of each head.
    pub head: HeadSettings,
    /// Distance to remembered good patches, added to the heads' logits; heads alone if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<NeighbourSettings>,
    /// Changed copies of the good pictures, trained on beside them; none if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Scores of a picture.
    pub scoring: Scoring,
    /// By what the maps of the views count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub map_views: MapViews,
    /// Wanted share of good parts that are rejected.
    pub false_reject_rate: f64,
    /// Whether EXIF orientation is honoured.
    pub apply_orientation: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Numbers of the network's products. Scores and threshold hold for this precision, so a model is always run with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Where in the picture parts are looked at; everywhere if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roi: Option<Roi>,
    /// Regions of the map with fewer pixels of the picture than this are not reported. It moves neither scores nor verdicts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_area: usize,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn published_momentum() -> f32 {
    CENTER_MOMENTUM
}

fn is_published_momentum(value: &f32) -> bool {
    *value == CENTER_MOMENTUM
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl HeadSettings {
    /// Multiplies both learning rates.
    pub fn multiply_rates(&mut self, factor: f32) {
        self.projection_rate *= factor;
        self.discriminator_rate *= factor;
    }
}

impl Settings {
    /// The settings of a preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        match preset {
            Preset::Fast => Self {
                preset,
                sizes: Sizes::Auto,
                fit: Fit::Stretch,
                feature_layers: ["stride8", "stride16", "stride32"].map(String::from).to_vec(),
                pooling: Pooling::Channels,
                folds: Folds::Auto,
                head: HeadSettings {
                    hidden: 256,
                    batch: Batch::Patches(1296),
                    length: Length::Pass { least: 400, most: 1600 },
                    centers: CenterRule::Neighbours(324),
                    center_momentum: CENTER_MOMENTUM,
                    synthesis: Synthesis::Rays,
                    refinement: true,
                    synthesis_scale: [0.05, 0.6],
                    boundary_weight: 0.1,
                    projection_rate: 1e-3,
                    discriminator_rate: 2e-3,
                    projection_decay: 1e-5,
                    discriminator_decay: 1e-2,
                    cosine: true,
                    averaging: Some(0.99),
                    standardize: true,
                },
                neighbours: Some(NeighbourSettings::default()),
                augment: None,
                scoring: Scoring::Rarity { top_share: 0.003 },
                map_views: MapViews::Area,
                false_reject_rate: DEFAULT_FALSE_REJECT_RATE,
                apply_orientation: true,
                seed: 0,
                precision: Precision::F32,
                roi: None,
                min_area: 0,
            },
            Preset::Paper => Self {
                preset,
                sizes: Sizes::Fixed(vec![InputSize { height: 288, width: 288 }]),
                fit: Fit::Crop { resize: 288 },
                feature_layers: ["stride8", "stride16"].map(String::from).to_vec(),
                pooling: Pooling::Adaptive { embed_dim: 1536 },
                folds: Folds::Fixed(1),
                head: HeadSettings {
                    hidden: 1024,
                    batch: Batch::Pictures(8),
                    length: Length::Epochs(640),
                    centers: CenterRule::Positions,
                    center_momentum: CENTER_MOMENTUM,
                    synthesis: Synthesis::Rays,
                    refinement: true,
                    synthesis_scale: [0.25, 0.25],
                    boundary_weight: 1.0,
                    projection_rate: 1e-4,
                    discriminator_rate: 2e-4,
                    projection_decay: 1e-5,
                    discriminator_decay: 1e-2,
                    cosine: false,
                    averaging: None,
                    standardize: false,
                },
                neighbours: None,
                augment: None,
                scoring: Scoring::Sigmoid,
                map_views: MapViews::Alike,
                false_reject_rate: DEFAULT_FALSE_REJECT_RATE,
                apply_orientation: false,
                seed: 0,
                precision: Precision::F32,
                roi: None,
                min_area: 0,
            },
        }
    }

    /// Checks every range, so that nothing fails after minutes of work.
    ///
    /// # Errors
    /// The first setting that is out of range, by its flag.
    pub fn validate(&self) -> Result<()> {
        let h = &self.head;
        let need = |ok: bool, what: &str, expected: &str, found: &dyn std::fmt::Debug| {
            if ok {
                return Ok(());
            }
            Err(Error::caller(format!("{what}: expected {expected}, found {found:?}")))
        };
        let count = |n: usize| (1..=1_000_000).contains(&n);
        let batch = match h.batch {
            Batch::Pictures(n) | Batch::Patches(n) => n,
        };
        let (least, most) = match h.length {
            Length::Epochs(n) | Length::Steps(n) => (n, n),
            Length::Pass { least, most } => (least, most),
        };
        need(count(batch), "batch size", "1 to 1000000", &batch)?;
        for length in [least, most] {
            need((1..=10_000_000).contains(&length), "steps or epochs", "1 to 10000000", &length)?;
        }
        need(least <= most, "steps", "no more at least than at most", &h.length)?;
        need((1..=8192).contains(&h.hidden), "hidden units", "1 to 8192", &h.hidden)?;
        if let Pooling::Adaptive { embed_dim } = self.pooling {
            need((1..=8192).contains(&embed_dim), "embed dimension", "1 to 8192", &embed_dim)?;
        }
        let [low, high] = h.synthesis_scale;
        let scale_ok = low > 0.0 && low <= high && high <= 10.0;
        need(scale_ok, "synthesis scale", "a range within 0 (excluded) to 10", &h.synthesis_scale)?;
        if let Folds::Fixed(folds) = self.folds {
            need((1..=16).contains(&folds), "folds", "1 to 16", &folds)?;
        }
        need(!self.feature_layers.is_empty(), "feature layers", "at least one", &self.feature_layers)?;
        let unique: std::collections::BTreeSet<_> = self.feature_layers.iter().collect();
        let each_once = unique.len() == self.feature_layers.len();
        need(each_once, "feature layers", "each of them once", &self.feature_layers)?;
        if let CenterRule::Neighbours(n) = h.centers {
            need(count(n) && batch > 1, "neighbours", "1 to 1000000 and a batch of 2 or more", &(n, batch))?;
        }
        for (what, value) in [
            ("projection rate", h.projection_rate),
            ("discriminator rate", h.discriminator_rate),
            ("projection decay", h.projection_decay),
            ("discriminator decay", h.discriminator_decay),
            ("boundary weight", h.boundary_weight),
        ] {
            need((0.0..=100.0).contains(&value), what, "0 to 100", &value)?;
        }
        let momentum_ok = (0.0..=1.0).contains(&h.center_momentum);
        need(momentum_ok, "centre momentum", "0 to 1", &h.center_momentum)?;
        if let Synthesis::Noise(sigma) = h.synthesis {
            need(sigma > 0.0 && sigma <= 100.0, "noise", "above 0 and at most 100", &sigma)?;
        }
        if !h.refinement && h.boundary_weight == 0.0 {
            return Err(Error::caller(
                "boundary weight: expected above 0 without RBO, found 0, with which nothing is trained",
            ));
        }
        crate::calibrate::check_rate(self.false_reject_rate)?;
        let averaging_ok = h.averaging.is_none_or(|a| (0.0..1.0).contains(&a));
        need(averaging_ok, "averaging", "0 to 1 (excluded)", &h.averaging)?;
        if let Some(n) = &self.neighbours {
            need((16..=100_000).contains(&n.rows), "remembered patches", "16 to 100000", &n.rows)?;
            for weight in [Some(n.weight), Some(n.usual_weight), n.map_weight].into_iter().flatten() {
                need((0.0..=100.0).contains(&weight), "weight of distances", "0 to 100", &weight)?;
            }
            let limit_ok = n.map_limit.is_none_or(|l| l > 0.0 && l.is_finite() && n.map_weight.is_some());
            need(
                limit_ok,
                "limit of logits in the map",
                "above 0, with a weight of distances there",
                &n.map_limit,
            )?;
            if self.scoring == Scoring::Sigmoid {
                return Err(Error::caller(
                    "`--fuse`: expected `none` with the paper preset's scoring, found `nearest`",
                ));
            }
        }
        if let Sizes::Fixed(sizes) = &self.sizes {
            need((1..=8).contains(&sizes.len()), "sizes", "1 to 8 of them", &sizes.len())?;
            for s in sizes {
                let ok = (32..=4096).contains(&s.height) && (32..=4096).contains(&s.width);
                need(ok, "size", "32 to 4096 pixels a side", &(s.width, s.height))?;
                if let Fit::Crop { resize } = self.fit {
                    let expected = format!("at least the crop of {} x {}", s.width, s.height);
                    need(
                        resize >= s.width.min(s.height),
                        "shorter side before the crop",
                        &expected,
                        &resize,
                    )?;
                }
            }
        }
        match self.scoring {
            Scoring::Rarity { top_share } => {
                need(top_share > 0.0 && top_share <= 1.0, "top share", "above 0 and at most 1", &top_share)?;
            }
            Scoring::Sigmoid => {
                let one = matches!(&self.sizes, Sizes::Fixed(s) if s.len() == 1);
                need(one, "sizes", "one with the paper preset's scoring", &self.sizes)?;
                let one = self.folds == Folds::Fixed(1);
                need(one, "folds", "1 with the paper preset's scoring", &Option::<usize>::from(self.folds))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_follow_the_pictures_unless_they_are_given() {
        let of = |pictures: [usize; 6], rate| pictures.map(|n| Folds::Auto.of(n, rate));
        assert_eq!(of([1, 9, 10, 446, 447, 829], 0.01), [3, 3, 5, 5, 3, 3]);
        assert_eq!(of([10, 41, 42, 79, 80, 830], 0.1), [5, 5, 3, 3, 5, 5]);
        assert_eq!(Folds::Auto.of(830, 0.01), 5);
        assert_eq!([1, 1000].map(|n| Folds::Fixed(2).of(n, 0.01)), [2, 2]);
        assert_eq!(fold_sizes(11, 3), [4, 4, 3]);
        // As models of before hold them.
        assert_eq!(serde_json::from_str::<Folds>("3").unwrap(), Folds::Fixed(3));
        for folds in [Folds::Auto, Folds::Fixed(7)] {
            let text = serde_json::to_string(&folds).unwrap();
            assert_eq!(serde_json::from_str::<Folds>(&text).unwrap(), folds);
        }
    }

    #[test]
    fn presets_are_valid_and_bad_ranges_are_named() {
        for preset in [Preset::Fast, Preset::Paper] {
            Settings::preset(preset).validate().unwrap();
        }
        let mut s = Settings::preset(Preset::Fast);
        s.head.synthesis_scale = [0.5, 0.1];
        assert!(s.validate().unwrap_err().to_string().contains("synthesis scale"));
        let mut s = Settings::preset(Preset::Fast);
        s.sizes = Sizes::Fixed(vec![InputSize { height: 16, width: 288 }]);
        assert!(s.validate().unwrap_err().to_string().starts_with("size: expected 32 to 4096"));
    }
}
