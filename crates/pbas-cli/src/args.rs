//! What may be written on the command line. Parsed whole before anything is done.

mod backbone;
mod bench;
mod data;
mod history;
mod recipe;
mod report;
mod serve;
mod watch;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use pbas::Precision;
use pbas::export::{DEFAULT_OPSET, Input};
use pbas::preprocess::InputSize;
use pbas::settings::{Augment, Preset, Sizes};

pub use backbone::{BackboneArgs, BackboneCommand, Fetch};
pub use bench::{Bench, BenchCommand, BenchRun, Change, Merge};
pub use data::{Data, DataCommand, Inspect};
pub use history::{History, HistoryCommand, HistoryFormat, ReviewName, VerdictName, Verify};
pub use recipe::Recipe;
pub use report::Report;
pub use serve::{LogFormat, Serve};
pub use watch::{MoveOf, Watch};

const EXIT_CODES: &str = "Exit codes: 0 done; 1 anomalies were found (predict --fail-on-anomaly alone); 2 failed, or \
                          failed for some inputs (the others are done); 130 stopped by Ctrl-C or a signal.";

/// Finds defects never seen, from pictures of good parts alone (PBAS).
#[derive(Debug, Parser)]
#[command(name = "pbas", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads to compute with, 1 to 1024 [default: one a core]. Results do not depend on it
    #[arg(long, global = true, display_order = 900, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// No progress on stderr; warnings and errors still appear
    #[arg(short, long, global = true, display_order = 901)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn a model from pictures of good parts
    Train(Box<Train>),
    /// Set a model's threshold anew, by new good pictures or for another rate, without training
    Calibrate(Calibrate),
    /// Judge a labelled test set and compare with the labels
    Eval(Eval),
    /// Judge pictures
    Predict(Predict),
    /// Look at a picture set before training: files, duplicates, blur, light, outliers, what its size supports
    Doctor(Doctor),
    /// Say what is in a model file
    Info(Info),
    /// Judge pictures over HTTP, with a page for people
    Serve(Box<Serve>),
    /// Judge the pictures that cameras drop into a folder, and keep a record
    Watch(Box<Watch>),
    /// What the record of a line holds: list, export, verify
    History(History),
    /// Write a model as one ONNX graph, for other runtimes
    Export(Export),
    /// Backbones: which there are, import, download
    Backbone(BackboneArgs),
    /// Look at data sets
    Data(Data),
    /// Train and evaluate every category of a data set with several seeds; goes on where it was stopped
    Bench(Box<Bench>),
    /// Make one page of a benchmark's results, with Markdown and CSV beside it
    Report(Report),
    /// Make a small picture set, train, evaluate, write heatmaps, and say where to look
    Demo(Demo),
}

/// `pbas train`.
#[derive(Debug, clap::Args)]
pub struct Train {
    /// Folder of good pictures with all its subfolders, or an MVTec-layout category, of which `train/good` alone is used
    pub dir: PathBuf,
    /// The model file to write; one that is there is replaced once the new one is complete
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How.
    #[command(flatten)]
    pub recipe: Recipe,
    /// Where parts are looked at: a picture of the size of the pictures, or of the same proportions, white where to look; outside it
    /// nothing trains and nothing scores. `auto` finds the part on a plain background, or refuses [default: everywhere]
    #[arg(long, value_name = "MASK|auto")]
    pub roi: Option<PathBuf>,
    /// Seed of everything random; the same seed, pictures and options give the same file, byte for byte [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Go on from the checkpoint that a stopped run left in `<FILE>.checkpoint`
    #[arg(long)]
    pub resume: bool,
}

/// `pbas calibrate`.
#[derive(Debug, clap::Args)]
pub struct Calibrate {
    /// The model file
    pub model: PathBuf,
    /// Folder of new good pictures, which the model was not trained on; without it the pictures of before are used again
    pub dir: Option<PathBuf>,
    /// Share of good parts that may be rejected, above 0 to 0.5 [default: the model's]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub false_reject_rate: Option<f64>,
    /// The model file to write [default: the model itself is replaced]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `pbas eval`.
#[derive(Debug, clap::Args)]
pub struct Eval {
    /// The model file
    pub model: PathBuf,
    /// MVTec-layout category: `test/<type>/*`, masks in `ground_truth/<type>/`; good pictures in `test/good`
    pub dir: PathBuf,
    /// Write all figures and the score of every picture to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write for each picture a PNG with the picture, its scores and the true defect side by side. One colour scale
    /// for all: from a quarter of the model's pixel threshold to 1.25 times it (0 to 1 where scores are sigmoids)
    #[arg(long, value_name = "DIR")]
    pub heatmaps: Option<PathBuf>,
    /// Also judge the set by other methods on the same features: `nearest` (or `patchcore`), the distance to the nearest of a coreset
    /// of good patches; `oracle`, the published training whose best epoch the test labels choose, which no honest method may do
    #[arg(long, value_enum, value_name = "METHODS", value_delimiter = ',')]
    pub compare: Vec<Method>,
    /// Epochs that the oracle trains and chooses from; published are 640
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=100_000), requires = "compare")]
    pub oracle_epochs: u64,
    /// Refuse a model of another precision; `auto` takes any, which is then run as it was trained
    #[arg(long, value_enum, default_value = "auto")]
    pub precision: PrecisionName,
    /// The good pictures that the compared methods learn from [default: `train/good` of DIR]
    #[arg(long, value_name = "DIR", requires = "compare")]
    pub good: Option<PathBuf>,
}

/// Evidence beside the heads'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FuseName {
    /// The heads alone
    None,
    /// Distance to remembered good patches
    Nearest,
}

/// Changed copies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AugmentName {
    /// None
    Off,
    /// One of each picture, changed a little
    Light,
    /// Three, changed more
    Strong,
    /// Three, rotated by any angle
    Rotations,
}

impl AugmentName {
    /// What it stands for.
    pub fn named(self) -> Option<Augment> {
        match self {
            Self::Off => None,
            Self::Light => Some(Augment::Light),
            Self::Strong => Some(Augment::Strong),
            Self::Rotations => Some(Augment::Rotations),
        }
    }
}

/// A method to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Nearest neighbours in a coreset of good patches
    #[value(alias = "patchcore")]
    Nearest,
    /// The published protocol's best epoch by test labels
    Oracle,
}

/// `pbas predict`.
#[derive(Debug, clap::Args)]
pub struct Predict {
    /// The model file
    pub model: PathBuf,
    /// Pictures, or folders of which all pictures are taken
    #[arg(required = true, value_name = "IMG|DIR")]
    pub inputs: Vec<PathBuf>,
    /// What is written to stdout, in the order of the inputs
    #[arg(long, value_enum, default_value = "jsonl")]
    pub format: Format,
    /// Write for each picture a PNG with the picture and its scores side by side. One colour scale for all: from a
    /// quarter of the model's pixel threshold to 1.25 times it (0 to 1 where scores are sigmoids)
    #[arg(long, value_name = "DIR")]
    pub heatmaps: Option<PathBuf>,
    /// Report no region of fewer pixels of the picture; scores and verdicts stay as they are [default: the model's, see `train`]
    #[arg(long, value_name = "N")]
    pub min_area: Option<usize>,
    /// Refuse a model of another precision; `auto` takes any, which is then run as it was trained
    #[arg(long, value_enum, default_value = "auto")]
    pub precision: PrecisionName,
    /// Exit with 1 where a picture is anomalous (and none failed)
    #[arg(long)]
    pub fail_on_anomaly: bool,
}

/// `pbas doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Folder of good pictures with all its subfolders, or an MVTec-layout category with `train/good` and `test`
    pub dir: PathBuf,
    /// Write JSON with the figures of every picture instead of text
    #[arg(long)]
    pub json: bool,
    /// Also write the report with thumbnails as one self-contained page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Settings for which time and memory of training are estimated
    #[arg(long, value_enum, default_value = "fast")]
    pub preset: PresetName,
    /// As in `train`; for the estimate of memory
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = parse_bytes)]
    pub cache_limit: u64,
}

/// `pbas info`.
#[derive(Debug, clap::Args)]
pub struct Info {
    /// The model file
    pub model: PathBuf,
    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `pbas export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The model file
    pub model: PathBuf,
    /// The ONNX file to write; one that is there is kept unless --force is given
    pub output: PathBuf,
    /// What the graph is given: `view` a float32 picture for each view, at its size; `any` one float32 picture of any size, which
    /// the graph resizes; `any-bytes` the same as uint8, rows of pixels of R, G, B, as decoders give it
    #[arg(long, value_enum, default_value = "view")]
    pub input: InputName,
    /// Version of ONNX's operator set, 18 to 28
    #[arg(long, value_name = "N", default_value_t = DEFAULT_OPSET)]
    pub opset: u32,
    /// Replace an ONNX file that is there, once the new one is complete
    #[arg(long)]
    pub force: bool,
    /// Also write to stdout what pbas itself says of these pictures, one JSON object a picture, to compare with what
    /// bench/onnx_parity.py says of the ONNX file
    #[arg(long, num_args = 1.., value_name = "IMG|DIR")]
    pub check: Vec<PathBuf>,
}

/// `pbas demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Folder for pictures, model and heatmaps: a new one, an empty one, or that of an earlier demo
    #[arg(short, long, value_name = "DIR", default_value = "pbas-demo")]
    pub output: PathBuf,
    /// Seed of pictures and training
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// As in `train`; for quick looks and tests
    #[arg(long, value_name = "SIZES", value_parser = parse_sizes, hide = true)]
    pub size: Option<Sizes>,
    /// As in `train`; for quick looks and tests
    #[arg(long, value_name = "N", hide = true)]
    pub steps: Option<u64>,
}

/// A preset by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PresetName {
    /// One to three minutes on two cores
    Fast,
    /// The published settings to the letter; hours
    Paper,
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::Fast => Preset::Fast,
            PresetName::Paper => Preset::Paper,
        }
    }
}

/// A precision by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionName {
    /// Float32
    F32,
    /// Bfloat16, with float32 sums
    Bf16,
    /// What fits
    Auto,
}

impl PrecisionName {
    /// The precision, if one is named.
    pub fn named(self) -> Option<Precision> {
        match self {
            Self::F32 => Some(Precision::F32),
            Self::Bf16 => Some(Precision::Bf16),
            Self::Auto => None,
        }
    }
}

/// A fit by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FitName {
    /// Nothing of the picture is lost
    Stretch,
    /// The paper's way
    Crop,
    /// The rest is filled with the picture's mean colour
    Pad,
}

/// Inputs of an exported graph by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputName {
    /// One input a view, at its size
    View,
    /// One of any size, float32
    Any,
    /// One of any size, uint8
    AnyBytes,
}

impl From<InputName> for Input {
    fn from(name: InputName) -> Self {
        match name {
            InputName::View => Self::View,
            InputName::Any => Self::Any,
            InputName::AnyBytes => Self::AnyBytes,
        }
    }
}

/// What `predict` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a picture, with every region
    Jsonl,
    /// A header and one row a picture, with the highest region
    Csv,
    /// Columns for people
    Table,
}

fn parse_sizes(text: &str) -> Result<Sizes, String> {
    match text {
        "auto" => return Ok(Sizes::Auto),
        "native" => return Ok(Sizes::Native),
        _ => {}
    }
    text.split(',').map(parse_size).collect::<Result<_, _>>().map(Sizes::Fixed)
}

fn parse_size(text: &str) -> Result<InputSize, String> {
    let side = |s: &str| {
        s.trim().parse::<usize>().ok().filter(|side| (32..=4096).contains(side)).ok_or_else(|| {
            format!(
                "expected `auto`, a side in pixels from 32 to 4096 or WIDTHxHEIGHT, separated by commas; found `{text}`"
            )
        })
    };
    match text.split_once(['x', 'X']) {
        Some((width, height)) => Ok(InputSize { height: side(height)?, width: side(width)? }),
        None => side(text).map(InputSize::square),
    }
}

fn parse_scale(text: &str) -> Result<[f32; 2], String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let number = |s: &str| s.trim().parse::<f32>().ok().filter(|v| *v > 0.0 && *v <= 10.0);
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok([low, high]),
        _ => Err(format!("expected a number above 0 and at most 10, or LOW..HIGH of such; found `{text}`")),
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("", 1),
        ("b", 1),
        ("kb", 1000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
    ];
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor as f64);
    match (number.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) if number * factor < 2f64.powi(63) => Ok((number * factor) as u64),
        _ => Err(format!("expected a size such as 500MB, 2GB or 1GiB, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes() {
        let fixed = |s: &[(usize, usize)]| {
            Ok(Sizes::Fixed(s.iter().map(|&(width, height)| InputSize { height, width }).collect()))
        };
        assert_eq!(parse_sizes("auto"), Ok(Sizes::Auto));
        assert_eq!(parse_sizes("native"), Ok(Sizes::Native));
        assert_eq!(parse_sizes("288"), fixed(&[(288, 288)]));
        assert_eq!(parse_sizes("640,448, 288"), fixed(&[(640, 640), (448, 448), (288, 288)]));
        assert_eq!(parse_sizes("640x480"), fixed(&[(640, 480)]));
        for bad in
            ["", "0", "31", "4097", "64,", "64x", "x64", "-64", "64x64x64", "big", "99999999999999999999"]
        {
            assert!(parse_sizes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scales() {
        assert_eq!(parse_scale("0.25"), Ok([0.25, 0.25]));
        assert_eq!(parse_scale("0.05..0.6"), Ok([0.05, 0.6]));
        for bad in ["", "0", "-1", "NaN", "inf", "11", "0.6..0.05", "..", "1..", "0.1,0.2"] {
            assert!(parse_scale(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes() {
        let cases = [("0", 0), ("17", 17), ("2GB", 2_000_000_000), ("1.5 kB", 1500), ("1gib", 1 << 30)];
        for (text, expected) in cases {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "GB", "2TB", "-1", "1e3", "99999999999GB", "1.2.3"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
