//! What is said of a judged picture in JSON, by `predict` and by a server alike.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::detector::{Prediction, Verdict};
use crate::score::Region;

/// A judged picture; sizes and positions in pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// As it was given, or found below a folder that was given.
    pub path: String,
    /// [`Prediction::image_score`].
    pub image_score: f64,
    /// [`Prediction::p_value`].
    pub p_value: f64,
    /// [`Prediction::threshold`].
    pub threshold: f64,
    /// `normal` or `anomalous`.
    pub verdict: Verdict,
    /// Width of the picture.
    pub width: usize,
    /// Height of the picture.
    pub height: usize,
    /// [`Prediction::regions`].
    pub regions: Vec<Region>,
    /// Time of the judgement, without reading the file, to a hundredth.
    pub milliseconds: f64,
}

impl Judged {
    /// What is said of a prediction.
    #[must_use]
    pub fn new(path: &Path, p: &Prediction) -> Self {
        Self {
            path: path.display().to_string(),
            image_score: p.image_score,
            p_value: p.p_value,
            threshold: p.threshold,
            verdict: p.verdict,
            width: p.width,
            height: p.height,
            regions: p.regions.clone(),
            milliseconds: (p.milliseconds * 100.0).round() / 100.0,
        }
    }
}

impl Verdict {
    /// The word that stands for it in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Anomalous => "anomalous",
        }
    }
}
