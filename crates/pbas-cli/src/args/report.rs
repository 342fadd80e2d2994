//! `pbas report`.

use std::path::PathBuf;

/// `pbas report`.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// A folder that `pbas bench` has written
    pub dir: PathBuf,
    /// The page to write; Markdown and CSV are written beside it [default: report.html in DIR]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Heading of the page [default: the folder's name]
    #[arg(long)]
    pub title: Option<String>,
}
