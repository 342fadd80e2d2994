//! `pbas backbone`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use pbas::backbone::WeightFormat;

/// `pbas backbone`.
#[derive(Debug, clap::Args)]
pub struct BackboneArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BackboneCommand,
    /// Folder of imported backbones [default: PBAS_DATA_DIR/backbones, or the user's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// What can be done with backbones.
#[derive(Debug, Subcommand)]
pub enum BackboneCommand {
    /// Say which are built in, imported, and known to `fetch`
    List(List),
    /// Check a weight file and keep it under a name, for `--backbone NAME`
    Import(Import),
    /// Download a known backbone, verify it, and import it; the one command that uses the network
    Fetch(Fetch),
}

/// `pbas backbone list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Numbers in which weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightFormatName {
    /// Half the room
    Float16,
    /// As published
    Float32,
}

impl From<WeightFormatName> for WeightFormat {
    fn from(name: WeightFormatName) -> Self {
        match name {
            WeightFormatName::Float16 => Self::Float16,
            WeightFormatName::Float32 => Self::Float32,
        }
    }
}

/// `pbas backbone import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// A .pth or .safetensors file with the names of torchvision or timm; no code in it is run
    pub file: PathBuf,
    /// The name to keep it under [default: that of its architecture]
    #[arg(long)]
    pub name: Option<String>,
    /// Numbers in which its weights are kept
    #[arg(long, value_enum, default_value = "float32")]
    pub format: WeightFormatName,
    /// Replace one of this name
    #[arg(long)]
    pub force: bool,
}

/// `pbas backbone fetch`.
#[derive(Debug, clap::Args)]
pub struct Fetch {
    /// A known name, or with --from-url and --sha256 any
    pub name: String,
    /// Address of the same file elsewhere, as on a company's mirror; http or https
    #[arg(long, value_name = "URL")]
    pub from_url: Option<String>,
    /// SHA-256 that the file must have, or its first 8 digits or more [default: what is known of the name]
    #[arg(long, value_name = "HEX", value_parser = parse_digest)]
    pub sha256: Option<String>,
    /// Numbers in which its weights are kept
    #[arg(long, value_enum, default_value = "float32")]
    pub format: WeightFormatName,
    /// Seconds without a byte after which a connection counts as broken
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub patience: u64,
    /// Replace one of this name
    #[arg(long)]
    pub force: bool,
}

fn parse_digest(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if (8..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err(format!("expected 8 to 64 hexadecimal digits, found `{text}`"))
}
