//! Arguments of `pbas history`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// `pbas history`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct History {
    /// What to do instead of listing parts.
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
    /// The record that `pbas watch` or `pbas serve --db` writes; it may go on writing
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// Parts judged at this time or later: `2026-11-25`, `2026-11-25T06:00:00Z`, or an age such as `8h` or `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Parts judged before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// Parts of one verdict; `error`: those that could not be judged
    #[arg(long, value_enum)]
    pub verdict: Option<VerdictName>,
    /// Parts judged by one model: its name, or the beginning of its file's SHA-256 (8 digits or more)
    #[arg(long, value_name = "NAME|DIGEST")]
    pub model: Option<String>,
    /// Parts that a person has reviewed so; `none`: not reviewed
    #[arg(long, value_enum)]
    pub review: Option<ReviewName>,
    /// The latest N parts alone, in order
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// How they are written
    #[arg(long, value_enum, default_value = "table")]
    pub format: HistoryFormat,
    /// Write to this file instead of stdout; it is replaced once it is complete
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What can be done with a record.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Compute every digest again: is any row edited, removed or out of its place? Exit code 2 where one is
    Verify(Verify),
}

/// `pbas history verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The record
    pub file: PathBuf,
    /// Write JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// A part's number and digest that were noted before: they must still be so
    #[arg(long, value_name = "PART:DIGEST")]
    pub expect: Option<String>,
}

/// A verdict, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerdictName {
    /// At or below the threshold
    #[value(alias = "good")]
    Normal,
    /// Above the threshold
    Anomalous,
    /// Could not be judged
    Error,
}

/// A review, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReviewName {
    /// Good after all
    Good,
    /// A defect
    Defect,
    /// Left open
    Skipped,
    /// Not reviewed
    None,
}

/// How parts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryFormat {
    /// Columns for people
    Table,
    /// A header and one row a part
    Csv,
    /// One JSON object a part
    Jsonl,
    /// A Parquet file
    Parquet,
}

/// A time, a day (UTC), or an age.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let wrong = || {
        format!("expected 2026-11-25, 2026-11-25T06:00:00Z or an age such as 90m, 8h or 7d, found `{text}`")
    };
    if let Ok(age) = parse_age(text) {
        return Timestamp::now().checked_sub(age).map_err(|_| wrong());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let day: Date = text.parse().map_err(|_| wrong())?;
    day.to_zoned(TimeZone::UTC).map(|z| z.timestamp()).map_err(|_| wrong())
}

/// A duration such as `500ms`, `2s`, `90m`, `8h`, `7d` or `2w`.
pub fn parse_age(text: &str) -> Result<SignedDuration, String> {
    const UNITS: [(&str, f64); 6] =
        [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0)];
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, f)| *f);
    match (number.parse::<f64>(), factor) {
        // A century is enough for whatever is meant.
        (Ok(number), Some(factor)) if number * factor <= 3.2e9 => {
            Ok(SignedDuration::from_millis((number * factor * 1e3) as i64))
        }
        _ => Err(format!("expected a duration such as 500ms, 2s, 90m, 8h or 90d, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages() {
        let at = |text| parse_time(text).map(|t| t.to_string());
        assert_eq!(at("2026-11-25").as_deref(), Ok("2026-11-25T00:00:00Z"));
        assert_eq!(at("2026-11-25T06:30:00+02:00").as_deref(), Ok("2026-11-25T04:30:00Z"));
        let week = SignedDuration::from_hours(7 * 24);
        let (before, then, after) = (Timestamp::now(), parse_time("7d").unwrap(), Timestamp::now());
        assert!(before - week <= then && then <= after - week, "{then}");
        assert_eq!(parse_age("1.5h"), Ok(SignedDuration::from_secs(5400)));
        assert_eq!(parse_age("250ms"), Ok(SignedDuration::from_millis(250)));
        for wrong in ["", "7", "d", "-1d", "1y", "99999999999999d", "yesterday", "2026-13-01"] {
            assert!(parse_time(wrong).is_err() && parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
