//! The log on stderr: what the server does, and one line a request; as text or as JSON.

use std::io::IsTerminal;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines, one JSON object a line.
    Json,
}

/// Writes the log from now on. `quiet`: warnings and errors alone. A program that has a log already keeps it.
pub fn init(format: Format, quiet: bool) {
    let level = if quiet { tracing::Level::WARN } else { tracing::Level::INFO };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let kept = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if kept.is_err() {
        tracing::debug!("the log that is there is kept");
    }
}
