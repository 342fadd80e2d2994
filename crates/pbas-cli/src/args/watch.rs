//! Arguments of `pbas watch`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;

use super::history::parse_age;
use super::parse_bytes;

const STATED: &str = "A picture is taken when it is complete: its size and time have stayed the same for the quiet time and it can be decoded; or it was
renamed into the folder and can be decoded; or a file `NAME.png.done` or `NAME.done` lies beside it. Pictures that are complete at the
same look are taken by time, then by name. Each is recorded once, whatever happens to the process; lines on stdout, commands and MQTT
messages come at least once, with the part's number as `id`. Ctrl-C or SIGTERM ends it; the exit code is 0.";

const BROKER: &str = "Send each verdict to a broker: mqtt://[USER@]HOST[:PORT][/TOPIC], with quality of service 1; the topic is pbas/MODEL unless \
                      given. A password comes in PBAS_MQTT_PASSWORD";

/// `pbas watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = STATED)]
pub struct Watch {
    /// The folder into which pictures are dropped; folders in it are not looked at
    pub folder: PathBuf,
    /// The model file
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// The record; made if there is none. It must be the same after a restart
    #[arg(long, value_name = "FILE", default_value = "line.sqlite")]
    pub db: PathBuf,
    /// Move judged pictures: `good=DIR`, `anomalous=DIR`, or both with a comma between. Nothing is overwritten
    #[arg(long = "move", value_name = "VERDICT=DIR", value_delimiter = ',', value_parser = parse_move)]
    pub moves: Vec<(MoveOf, PathBuf)>,
    /// Where files that are no readable picture are moved to; `keep` leaves them where they are [default: FOLDER/unreadable]
    #[arg(long, value_name = "DIR|keep")]
    pub unreadable: Option<PathBuf>,
    /// Write for each picture a PNG with the picture and its scores side by side, named by the part's number
    #[arg(long, value_name = "DIR")]
    pub heatmaps: Option<PathBuf>,
    /// Run this for each picture, one after the other. It is split at white space ('...' and \"...\" hold together) and started without
    /// a shell. The verdict comes as JSON on its stdin and in PBAS_ID, PBAS_VERDICT, PBAS_SCORE, PBAS_FILE and others
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
    /// End the command after this time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub exec_timeout: Duration,
    /// Send each verdict to a broker.
    #[arg(long, value_name = "URL", help = BROKER)]
    pub mqtt: Option<String>,
    /// Serve the page for people here: live, review, drift (for instance 127.0.0.1:8321)
    #[arg(long, value_name = "ADDRESS")]
    pub page: Option<SocketAddr>,
    /// File of tokens for the page, lines of `read TOKEN` or `admin TOKEN`
    #[arg(long, value_name = "FILE", requires = "page")]
    pub tokens: Option<PathBuf>,
    /// Serve the page beyond this machine without tokens
    #[arg(long, requires = "page")]
    pub insecure: bool,
    /// Look at the folder so often, beside what the system tells
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    pub poll: Duration,
    /// Try a picture once it has stayed the same for this time
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub quiet_time: Duration,
    /// Set a file aside that has stayed the same for this time and still is no picture
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub give_up: Duration,
    /// Take only pictures with a `.done` file beside them
    #[arg(long)]
    pub done_files: bool,
    /// Remove parts from the record that are older, unless they are under review (rejected, and not yet found good or a defect)
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    pub keep: Option<SignedDuration>,
    /// Beyond this size remove the oldest thumbnails and maps from the record, then the oldest parts; never what is under review
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub max_size: Option<u64>,
    /// Keep no thumbnails and maps in the record
    #[arg(long)]
    pub no_pictures: bool,
}

/// Which pictures are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveOf {
    /// Those that pass.
    Good,
    /// Those that are rejected.
    Anomalous,
}

fn parse_move(text: &str) -> Result<(MoveOf, PathBuf), String> {
    let wrong = || format!("expected good=DIR or anomalous=DIR, found `{text}`");
    let (verdict, folder) = text.split_once('=').filter(|(_, f)| !f.is_empty()).ok_or_else(wrong)?;
    let of = match verdict.trim() {
        "good" | "normal" => MoveOf::Good,
        "anomalous" => MoveOf::Anomalous,
        _ => return Err(wrong()),
    };
    Ok((of, folder.into()))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::try_from(parse_age(text)?).map_err(|e| e.to_string())
}
