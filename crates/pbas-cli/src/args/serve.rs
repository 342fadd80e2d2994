//! Arguments of `pbas serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::SignedDuration;

use super::history::parse_age;
use super::parse_bytes;

/// `pbas serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Model files; a model's name is its file's, without `.pbas`
    #[arg(value_name = "MODEL", required_unless_present = "models")]
    pub files: Vec<PathBuf>,
    /// Serve the models of this folder as well: files that appear, change or go are followed while the server runs
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Address and port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8321")]
    pub listen: SocketAddr,
    /// Keep every verdict in this file [default: the latest ones, in memory]
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Remove parts from the record that are older, unless they are under review (rejected, and not yet found good or a defect)
    #[arg(long, value_name = "TIME", value_parser = parse_age, requires = "db")]
    pub keep: Option<SignedDuration>,
    /// Beyond this size remove the oldest thumbnails and maps from the record, then the oldest parts; never what is under review
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, requires = "db")]
    pub max_size: Option<u64>,
    /// File of tokens, lines of `read TOKEN` or `admin TOKEN`; requests then need one
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Listen beyond this machine without tokens, and answer to any host name
    #[arg(long)]
    pub insecure: bool,
    /// Certificate for TLS, with those between it and the root, as PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Pictures that may wait; more are refused with 503
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub queue: u16,
    /// Seconds from a picture's arrival in which its turn must come, 0.1 to 600; otherwise it is refused with 503
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = parse_seconds)]
    pub deadline: f64,
    /// Longest body of a request
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = parse_bytes)]
    pub max_body: u64,
    /// Memory for the bodies of all requests together
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    pub max_bodies: u64,
    /// Most pixels of a picture
    #[arg(long, value_name = "N", default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub max_pixels: u64,
    /// Connections at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_connections: u16,
    /// How the log on stderr is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log: LogFormat,
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.trim().parse::<f64>().ok().filter(|s| (0.1..=600.0).contains(s));
    seconds.ok_or_else(|| format!("expected seconds from 0.1 to 600, found `{text}`"))
}
