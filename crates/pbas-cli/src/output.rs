//! What is printed, and where: stdout carries data alone, everything said to people goes to stderr.

use std::error::Error as _;
use std::io::{self, IsTerminal, Write};

use pbas::{Error, Result};

/// What may be printed about the work besides warnings and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printer {
    /// Bars that move: stderr is a terminal.
    Bars,
    /// A line now and then: stderr is a file or a pipe.
    Lines,
    /// Nothing.
    Quiet,
}

impl Printer {
    /// By the flag, and by what stderr is.
    pub fn new(quiet: bool) -> Self {
        match (quiet, io::stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }

    /// The same, without progress where data appear on a terminal: the two would run into each other.
    pub fn beside_data(self) -> Self {
        if io::stdout().is_terminal() { Self::Quiet } else { self }
    }

    /// Says something to the user, unless asked not to.
    pub fn say(self, text: &str) {
        if self != Self::Quiet {
            to_stderr(text);
        }
    }
}

/// A line on stderr. Nobody can be told if that fails.
pub fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All done.
    Done,
    /// Done, and something anomalous was found, which the caller wants to know by the exit code.
    Anomalies,
    /// Some inputs failed; the others are done.
    SomeFailed,
}

impl Status {
    /// Exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Anomalies => 1,
            Self::SomeFailed => crate::FAILED,
        }
    }
}

/// An error, its causes and its hint.
pub fn print_error(error: &Error) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(c) = cause {
        text.push_str(&format!("\n  caused by: {c}"));
        cause = c.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\nhint: {hint}"));
    }
    to_stderr(&text);
}

/// Writes to stdout at once. `false`: nobody reads any more (as behind `| head`), which is no fault.
///
/// # Errors
/// Stdout cannot be written for another reason, for instance a full disk.
pub fn data(bytes: &[u8]) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::new(pbas::ErrorKind::Io, "cannot write to stdout").with_source(e)),
    }
}

/// A number for people: `-` where it is absent.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"))
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.1} MB", n as f64 / 1e6),
    }
}

/// A time for people.
pub fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    match time.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

/// Aligned columns: the first to the left, the others to the right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a header.
    pub fn new(header: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(header);
        table
    }

    /// Adds a row.
    pub fn row<S: ToString>(&mut self, cells: &[S]) {
        self.rows.push(cells.iter().map(S::to_string).collect());
    }

    /// The lines.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(c));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match c {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["type", "n"]);
        table.row(&["größe", "7"]);
        table.row(&["a", "123"]);
        assert_eq!(table.render(), "type     n\ngröße    7\na      123\n");
        assert_eq!(Table::default().render(), "");
    }

    #[test]
    fn figures_for_people() {
        assert_eq!((figure(None), figure(Some(0.98765))), ("-".into(), "0.9877".into()));
        assert_eq!((bytes(999), bytes(5_100_000)), ("999 bytes".into(), "5.1 MB".into()));
        let times =
            [(0.26, "0.3 s"), (9.96, "9 s"), (75.0, "75 s"), (125.0, "2 min 5 s"), (7300.0, "2 h 1 min")];
        for (seconds, expected) in times {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), expected);
        }
    }
}
