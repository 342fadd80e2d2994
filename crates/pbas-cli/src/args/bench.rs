//! `pbas bench`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use pbas::bench::Protocol;
use pbas::settings::CenterRule;

use super::{Method, Recipe};

/// `pbas bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Bench {
    /// What to do with results that are there.
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// The runs.
    #[command(flatten)]
    pub run: BenchRun,
}

/// What is not a run.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Join the results of several machines
    Merge(Merge),
}

/// `pbas bench merge`.
#[derive(Debug, clap::Args)]
pub struct Merge {
    /// Folders that `pbas bench` has written, of the same settings
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// The folder to write
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
}

/// `pbas bench DATA`.
#[derive(Debug, clap::Args)]
pub struct BenchRun {
    /// A data set with its categories, or one category
    #[arg(required = true)]
    pub data: Option<PathBuf>,
    /// Folder of the results; one that holds results of the same settings is gone on with
    #[arg(short, long, value_name = "DIR", required = true)]
    pub output: Option<PathBuf>,
    /// `honest` never looks at the test pictures before the model is finished; `paper` also keeps, under the name `oracle`, the
    /// epoch that is best on the test pictures, as the published code does (and takes the preset `paper`)
    #[arg(long, value_enum, default_value = "honest")]
    pub protocol: ProtocolName,
    /// Runs of each category, with the seeds 0, 1, ...
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// Runs side by side, 1 to 64; they share cores and the memory for features
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// These categories alone
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub categories: Vec<String>,
    /// Every n-th run alone, from the i-th on; i counts from 0, as the index of a Kubernetes Indexed Job does
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    pub shard: Option<Shard>,
    /// Also judge by another method on the same features: `patchcore`, the distance to the nearest of a coreset of good patches
    #[arg(long, value_enum, value_name = "METHOD")]
    pub baseline: Option<Method>,
    /// Also train with one thing left out or changed, as the paper's tables have it: all that make sense with the settings, or those named, as
    /// `--ablations=without-abl,mean-centre`; a wrong name lists those that there are
    #[arg(long, value_name = "NAMES", value_delimiter = ',', num_args = 0.., require_equals = true, default_missing_value = "all")]
    pub ablations: Vec<String>,
    /// With `--protocol paper`: look at the test pictures after every so many epochs, and after the last
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub oracle_every: u64,
    /// How each model is trained.
    #[command(flatten)]
    pub recipe: Recipe,
    /// One thing left out or changed in every run.
    #[command(flatten)]
    pub change: Change,
}

/// What `--ablations` changes one at a time, for every run; beside `--synthesis-scale`, `--feature-layers`, `--embed-dim` and `--fuse`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Ablations, in every run")]
pub struct Change {
    /// Weight of the boundary loss, 0 to 100; 0 is without ABL [default: 0.1; paper: 1]
    #[arg(long, value_name = "W")]
    pub boundary_weight: Option<f32>,
    /// Where centres come from [default: the nearest of random patches; paper: positions]
    #[arg(long, value_enum, value_name = "RULE")]
    pub centers: Option<CenterName>,
    /// Weight of a batch in its centre where centres are aligned by position, 0 to 1; 0 keeps the first batch's [default: 0.1]
    #[arg(long, value_name = "M")]
    pub center_momentum: Option<f32>,
    /// Gaussian noise of this standard deviation in every entry, in place of AFS: a fixed size, random directions; above 0 to 100
    #[arg(long, value_name = "SIGMA")]
    pub noise: Option<f32>,
    /// No discriminator: the distance to the centre is the score. Such models are judged and not kept
    #[arg(long)]
    pub without_rbo: bool,
    /// Multiply both learning rates by this, above 0
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    pub rate_factor: Option<f32>,
}

/// A rule of centres by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CenterName {
    /// One a position, aligned before training
    Positions,
    /// One for all, the mean
    Mean,
}

impl From<CenterName> for CenterRule {
    fn from(name: CenterName) -> Self {
        match name {
            CenterName::Positions => Self::Positions,
            CenterName::Mean => Self::Mean,
        }
    }
}

fn parse_factor(text: &str) -> Result<f32, String> {
    let factor = text.trim().parse().ok().filter(|v: &f32| v.is_finite() && *v > 0.0);
    factor.ok_or_else(|| format!("expected a number above 0, found `{text}`"))
}

/// A protocol by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtocolName {
    /// Test pictures are opened once the model is finished
    Honest,
    /// The last epoch, and beside it the epoch that is best on the test pictures
    Paper,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Honest => Self::Honest,
            ProtocolName::Paper => Self::Paper,
        }
    }
}

/// A part of the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// Of so many.
    pub of: usize,
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/').map(|(i, n)| (i.trim().parse(), n.trim().parse()));
    match parts {
        Some((Ok(index), Ok(of))) if index < of => Ok(Shard { index, of }),
        _ => Err(format!("expected I/N with I from 0 to N - 1, such as 0/4, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_positive_numbers() {
        assert_eq!(parse_factor("0.3"), Ok(0.3));
        for bad in ["", "0", "-1", "NaN", "inf", "x"] {
            assert!(parse_factor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_count_from_zero() {
        assert_eq!(parse_shard("0/1"), Ok(Shard { index: 0, of: 1 }));
        assert_eq!(parse_shard("3/4"), Ok(Shard { index: 3, of: 4 }));
        for bad in ["", "1", "4/4", "-1/4", "0/0", "a/b", "1/2/3"] {
            assert!(parse_shard(bad).is_err(), "{bad}");
        }
    }
}
