//! Lists samples; never decodes a picture.
//!
//! Lists are sorted by the bytes of the path below the folder that was given, with `/` between its parts, so that
//! the order is the same on every machine. Hidden files and folders (a leading dot) and what operating systems leave
//! behind are passed over; links are followed, and every real folder is listed once.

mod folder;
mod inspect;
mod kolektor;
mod loco;
mod manifest;
mod mvtec;
mod pair;
mod real_iad;
mod set;
mod split;
mod visa;

pub use folder::{expand_inputs, good_pictures};
pub use inspect::{CategoryFacts, Inspection};
pub use loco::Saturation;
pub use mvtec::test_set;
pub use set::{Category, DataSet, Layout, open};

use std::path::PathBuf;

/// What a sample is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Label {
    /// A good part.
    Good,
    /// A part with a defect.
    Defective,
}

/// One picture of a test set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where the picture lies.
    pub path: PathBuf,
    /// The path relative to the set's root (the folder that was given), with `/`.
    pub name: String,
    /// Good or defective.
    pub label: Label,
    /// The name of its type's folder; `good` for good ones, however their folder is written.
    pub defect_type: String,
    /// The picture of what is defective; always `None` for good ones, of which nothing is.
    pub mask: Option<PathBuf>,
}

/// The pictures by which a model is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSet {
    /// Sorted by name; at least one.
    pub samples: Vec<Sample>,
    /// What is odd about the set and does not prevent its use, one sentence fragment each, naming the file or folder.
    pub warnings: Vec<String>,
    /// How much of each defective area has to be found, where the set says so (MVTec LOCO). The areas are then the set's own, one for each mask
    /// and grey value of a picture.
    pub saturation: Option<Saturation>,
}

impl TestSet {
    /// How many samples have this label.
    pub fn count(&self, label: Label) -> usize {
        self.samples.iter().filter(|s| s.label == label).count()
    }
}
