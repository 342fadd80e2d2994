//! `pbas data`.

use std::path::PathBuf;

use clap::Subcommand;

const LAYOUTS: &str = "Layouts that are recognised, one folder with its categories or a single category:
  MVTec AD, MPDD, VisA prepared so   <category>/train/good, test/<type>, ground_truth/<type>
  MVTec AD 2                         <category>/train/good, validation/good, test_public/{good,bad}
  MVTec LOCO                         as MVTec AD, a folder of masks a picture, defects_config.json
  BTAD                               <category>/train/ok, test/{ok,ko}, ground_truth/ko
  VisA                               split_csv/1cls.csv, <object>/Data/Images, <object>/Data/Masks
  Real-IAD                           realiad_jsons/<category>.json, realiad_<size>/<category>
  Kolektor SDD2                      train and test with <n>.png and <n>_GT.png
  good and bad folders               good, bad (or one folder a type)
  manifest                           a .csv or .jsonl file with path, split, label, mask (and category)";

/// `pbas data`.
#[derive(Debug, clap::Args)]
pub struct Data {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What can be done with data sets.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Say what layout a data set has and what is in it: categories, splits, counts, sizes, oddities
    #[command(after_help = LAYOUTS)]
    Inspect(Inspect),
}

/// `pbas data inspect`.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// The data set's folder, or a manifest
    pub dir: PathBuf,
    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,
}
