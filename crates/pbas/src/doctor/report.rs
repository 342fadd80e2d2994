//! What the doctor says.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cost::Cost;
use super::look::Light;
use super::part::Part;
use super::pose::Pose;
use super::support::Support;

/// The verdict on a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Nothing to be done.
    Ready,
    /// Training works; somebody should look at the warnings first.
    UsableWithWarnings,
    /// Training would fail, or its model would be worth nothing.
    NotReady,
}

impl Readiness {
    /// In plain words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::UsableWithWarnings => "usable with warnings",
            Self::NotReady => "not ready",
        }
    }
}

/// How grave a finding is; the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The set cannot be used so.
    Error,
    /// Somebody should look.
    Warning,
    /// Worth knowing.
    Note,
}

/// What a finding is about; within a severity the order of these is the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No picture could be read.
    NothingReadable,
    /// The pictures show nothing.
    Blank,
    /// The pictures are all the same.
    Identical,
    /// Too few pictures.
    TooFew,
    /// A picture is both among the good ones and among the defective ones.
    Contradiction,
    /// A picture is both for training and for the test.
    Leakage,
    /// A picture unlike the rest.
    Unlike,
    /// A file that cannot be read.
    Unreadable,
    /// The same file more than once.
    Duplicates,
    /// Nearly the same picture more than once.
    NearDuplicates,
    /// A picture less sharp than the rest.
    Blur,
    /// A picture much darker or brighter than the rest.
    Exposure,
    /// Black or white without detail.
    Clipped,
    /// Pictures of several proportions.
    Proportions,
    /// Pictures of several sizes.
    Sizes,
    /// Pictures in grey and in colour.
    Colours,
    /// Pictures of several formats.
    Formats,
    /// EXIF turns.
    Turns,
    /// The test's pictures differ from those for training.
    TestDiffers,
    /// The test set itself is odd.
    TestSet,
}

/// Pictures that belong together: one, or the members of a group of duplicates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Their names.
    pub pictures: Vec<String>,
    /// What is said of them, for instance `sharpness 12 % of the usual`; may be empty.
    pub detail: String,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How grave.
    pub severity: Severity,
    /// What about.
    pub kind: Kind,
    /// A lower-case fragment that names the first pictures.
    pub message: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// All pictures it is about, the worst first.
    pub shown: Vec<Shown>,
}

/// Counts of a split.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Split {
    /// Files listed.
    pub listed: usize,
    /// Of these, read.
    pub readable: usize,
    /// Of these, different files.
    pub distinct: usize,
    /// Pictures of each size, `width x height`, after EXIF turns.
    pub sizes: BTreeMap<String, usize>,
    /// Pictures of each format.
    pub formats: BTreeMap<String, usize>,
    /// Pictures of each colour mode of the file.
    pub colours: BTreeMap<String, usize>,
    /// Pictures whose content has colour, whatever the file's mode.
    pub coloured: usize,
    /// Pictures with an EXIF turn or mirror.
    pub turned: usize,
}

/// The usual light and sharpness of the good pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// Median of the mean grey levels, 0 to 255.
    pub level: f64,
    /// Their robust deviation.
    pub level_deviation: f64,
    /// Median share of clipped black pixels.
    pub black: f64,
    /// Median share of clipped white pixels.
    pub white: f64,
    /// Median sharpness (decimal logarithm; see [`super::grey::Grey::sharpness`]).
    pub sharpness: Option<f64>,
    /// Its robust deviation.
    pub sharpness_deviation: Option<f64>,
}

/// Figures of one picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PictureFacts {
    /// Its name.
    pub name: String,
    /// `good`, `test_good` or `test_defective`.
    pub role: &'static str,
    /// Pixels a row; as seen.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Format.
    pub format: String,
    /// Colour mode of the file.
    pub colour: String,
    /// Whether the file asks for a turn.
    pub turned: bool,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Light.
    pub light: Light,
    /// Sharpness.
    pub sharpness: Option<f64>,
    /// The part's place.
    pub part: Option<Part>,
    /// Root mean square difference to the nearest other picture, in grey levels of 64 x 64 cells.
    pub nearest_levels: Option<f64>,
    /// Robust deviations by which it is farther from its neighbours than good pictures usually are.
    pub unlike: Option<f64>,
}

/// The doctor's report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The verdict.
    pub readiness: Readiness,
    /// The verdict and its reasons on one line.
    pub verdict: String,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// The pictures for training.
    pub good: Split,
    /// Those of the test, if there is one.
    pub test: Option<Split>,
    /// Light and sharpness; `None` where no picture could be read.
    pub quality: Option<Quality>,
    /// How parts lie.
    pub pose: Pose,
    /// False-reject rates that the count supports.
    pub support: Support,
    /// Time and memory of training, if asked for.
    pub cost: Option<Cost>,
    /// Every picture that could be read, in the order given.
    pub pictures: Vec<PictureFacts>,
}

impl Report {
    /// Adds what listing the test set found odd ([`super::pictures`]), as notes: it does not concern training.
    pub fn add_test_oddities(&mut self, odd: &[String]) {
        self.findings.extend(odd.iter().map(|message| Finding {
            severity: Severity::Note,
            kind: Kind::TestSet,
            message: message.clone(),
            advice: String::new(),
            shown: vec![],
        }));
    }

    /// Messages of all errors and warnings, for `train` to print; worst first.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let grave = self.findings.iter().filter(|f| f.severity <= Severity::Warning);
        grave.map(|f| f.message.as_str())
    }
}
