//! What a finished run leaves: one line of `results.jsonl`.

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::backbone::BackboneInfo;
use crate::eval::{EvalResult, Summary};
use crate::settings::Settings;

/// What may choose the model that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Good training pictures alone. No test picture is opened before the model is finished.
    Honest,
    /// Beside that, test labels choose the best epoch, as in the published code: [`Record::oracle`].
    Paper,
}

/// What epoch is best, by the labels of the test pictures, and what it reaches on them: as published figures are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Oracle {
    /// The epoch, from 1, with the highest sum of image and pixel AUROC.
    pub epoch: u64,
    /// Epochs that were looked at.
    pub looked_at: u64,
    /// Figures of that epoch, with the threshold that the good pictures kept out of training give its head.
    pub summary: Summary,
}

/// The program that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Version.
    pub version: String,
    /// The commit it was built from, with `-dirty` where sources were changed since; `None` where that is not known.
    pub commit: Option<String>,
}

/// What a run took. It alone differs between two runs of the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds from pictures to model.
    pub train_seconds: f64,
    /// Seconds in which the test pictures were judged.
    pub evaluate_seconds: f64,
    /// Seconds of the baseline.
    pub baseline_seconds: Option<f64>,
    /// Runs side by side.
    pub jobs: usize,
    /// Threads of this one.
    pub threads: usize,
    /// The most memory that the process had during the run (with several jobs: all of them together).
    pub peak_memory_bytes: Option<u64>,
}

/// Why a picture is in the gallery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Defective and not rejected.
    Miss,
    /// Good and rejected.
    FalseReject,
    /// A defective one that is rejected, to see what its type looks like.
    Sample,
}

/// A picture of the gallery: the picture, its map over it and, where there is one, its defect mask over it, side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryPicture {
    /// Why it is there.
    pub reason: Reason,
    /// Path relative to the category.
    pub path: String,
    /// Type of the defect, `good` for none.
    pub defect_type: String,
    /// Its score.
    pub image_score: f64,
    /// JPEG file in the folder `gallery` beside the results.
    pub file: String,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this layout.
    pub format: u32,
    /// Category.
    pub category: String,
    /// What differs from the settings of the benchmark: `base` for nothing, else the name of an ablation.
    pub variant: String,
    /// Seed.
    pub seed: u64,
    /// What may have chosen the model.
    pub protocol: Protocol,
    /// Digest of the names and sizes of all files of the category.
    pub listing: String,
    /// SHA-256 over the SHA-256 of all pictures and masks of the category that could be read, in order.
    pub data_sha256: String,
    /// Good pictures learnt from.
    pub train_pictures: usize,
    /// Figures of the model that training ends with.
    pub result: EvalResult,
    /// What the test labels would choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle: Option<Oracle>,
    /// Pictures to look at; of the first seed alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gallery: Vec<GalleryPicture>,
    /// What was warned of during the run.
    pub warnings: Vec<String>,
    /// Settings as trained: sizes are those chosen for the pictures.
    pub settings: Settings,
    /// Backbone.
    pub backbone: BackboneInfo,
    /// Program.
    pub program: Program,
    /// Machine.
    pub machine: Machine,
    /// Time and memory.
    pub cost: Cost,
}

impl Record {
    /// The version of the layout that this program writes.
    pub const FORMAT: u32 = 1;

    /// What makes two runs the same run.
    #[must_use]
    pub fn key(&self) -> (&str, &str, u64, &str) {
        (&self.category, &self.variant, self.seed, &self.listing)
    }
}
