//! Progress on stderr: a bar on a terminal, elsewhere a line now and then; and the wish to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use pbas::train::observer::Observer;
use pbas::{Error, ErrorKind, Result};

use crate::output::{Printer, duration, to_stderr};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two pictures of a bar while nothing is reported.
const TICK: Duration = Duration::from_millis(200);
const TEMPLATE: &str = "{prefix:>10} [{bar:30}] {pos} of {len} {msg}{pace}";

/// Set by Ctrl-C and by a signal to end.
static STOP: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C (and SIGTERM, or what Windows has for it) a wish that [`Progress::interrupted`] reports; the second
/// one ends the program at once.
///
/// # Errors
/// The operating system refuses the handler.
pub fn catch_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(crate::INTERRUPTED));
        }
    })
    .map_err(|e| Error::new(ErrorKind::Io, "cannot wait for Ctrl-C").with_source(e))
}

/// Whether Ctrl-C was pressed or a signal came; for what runs until then.
pub fn is_stop_wished() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Shows what is being done.
#[derive(Debug)]
pub struct Progress {
    printer: Printer,
    /// What is said before the name of every stage, if anything.
    label: String,
    /// Where bars of several at once are drawn.
    bars: Option<MultiProgress>,
    stage: Mutex<Option<Stage>>,
    /// Whether the user was told that the wish to stop was heard.
    heard: AtomicBool,
}

#[derive(Debug)]
struct Stage {
    name: String,
    unit: String,
    total: u64,
    done: u64,
    /// Pieces that an earlier run had done: they say nothing of the rate.
    earlier: u64,
    start: Instant,
    printed: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Progress that is shown as `printer` says.
    pub fn new(printer: Printer) -> Self {
        Self::with(printer, String::new(), None)
    }

    /// Progress of one of several pieces of work, named `label`; `bars` is shared by those that are shown beside it.
    pub fn labelled(printer: Printer, label: &str, bars: &MultiProgress) -> Self {
        Self::with(printer, format!("{label}: "), Some(bars.clone()))
    }

    fn with(printer: Printer, label: String, bars: Option<MultiProgress>) -> Self {
        Self { printer, label, bars, stage: Mutex::new(None), heard: AtomicBool::new(false) }
    }

    fn stage(&self) -> MutexGuard<'_, Option<Stage>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the stage began earlier than it was told to.
    fn back_date(&self, start: Instant) {
        if let Some(stage) = self.stage().as_mut() {
            stage.start = start;
        }
    }

    /// Prints a line without breaking the bar.
    fn print(&self, text: &str) {
        match self.stage().as_ref().and_then(|s| s.bar.as_ref()) {
            Some(bar) => bar.suspend(|| to_stderr(text)),
            None => to_stderr(text),
        }
    }
}

impl Stage {
    /// Pieces a second, and the time that the rest will take; `None` before anything is known.
    fn pace(&self) -> Option<(f64, Duration)> {
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = (self.done - self.earlier) as f64 / seconds;
        let left = self.total.saturating_sub(self.done) as f64 / rate;
        let known = rate > 0.0 && rate.is_finite();
        let left = Duration::try_from_secs_f64(left).ok().filter(|_| known)?;
        Some((rate, left))
    }

    fn line(&self) -> String {
        let Self { name, unit, total, done, .. } = self;
        let mut line = format!("{name}: {done} of {total} {unit}");
        if let Some((rate, left)) = self.pace() {
            line.push_str(&format!(", {rate:.1}/s, {} left", duration(left)));
        }
        line
    }
}

impl Observer for Progress {
    fn begin(&self, stage: &str, total: u64, unit: &str) {
        let now = Instant::now();
        let stage = &format!("{}{stage}", self.label);
        let bar = (self.printer == Printer::Bars).then(|| {
            let bar = ProgressBar::new(total).with_prefix(stage.to_owned()).with_message(unit.to_owned());
            bar.set_style(style());
            let bar = match &self.bars {
                Some(bars) => bars.add(bar),
                None => bar,
            };
            bar.enable_steady_tick(TICK);
            bar
        });
        if self.printer == Printer::Lines {
            to_stderr(&format!("{stage}: {total} {unit}"));
        }
        *self.stage() = Some(Stage {
            name: stage.to_owned(),
            unit: unit.to_owned(),
            total,
            done: 0,
            earlier: 0,
            start: now,
            printed: now,
            bar,
        });
    }

    fn advance(&self, pieces: u64) {
        let mut guard = self.stage();
        let Some(stage) = guard.as_mut() else { return };
        stage.done += pieces;
        if pieces > 1 {
            stage.earlier += pieces;
        }
        if let Some(bar) = &stage.bar {
            bar.set_position(stage.done);
            if pieces > 1 {
                bar.reset_eta();
            }
        } else if self.printer == Printer::Lines && stage.printed.elapsed() >= LINE_EVERY {
            stage.printed = Instant::now();
            to_stderr(&stage.line());
        }
    }

    fn end(&self) {
        let Some(stage) = self.stage().take() else { return };
        if let Some(bar) = &stage.bar {
            bar.finish_and_clear();
        }
        let Stage { name, done, unit, start, .. } = &stage;
        self.printer.say(&format!("{name}: {done} {unit} in {}", duration(start.elapsed())));
    }

    fn warn(&self, message: &str) {
        self.print(&format!("warning: {}{message}", self.label));
    }

    fn interrupted(&self) -> bool {
        let stop = is_stop_wished();
        if stop && !self.heard.swap(true, Ordering::Relaxed) && self.printer != Printer::Quiet {
            self.print("stopping; Ctrl-C once more stops at once");
        }
        stop
    }
}

impl Drop for Progress {
    /// A stage that an error cut off leaves no bar behind.
    fn drop(&mut self) {
        if let Some(bar) = self.stage().take().and_then(|s| s.bar) {
            bar.finish_and_clear();
        }
    }
}

/// Passes progress on once a stage has taken a while: what is over at once needs none.
pub struct Patient<'a> {
    progress: &'a Progress,
    patience: Duration,
    waiting: Mutex<Option<Waiting>>,
}

/// A stage that has not been shown yet.
struct Waiting {
    name: String,
    unit: String,
    total: u64,
    done: u64,
    start: Instant,
}

impl<'a> Patient<'a> {
    /// Waits for `patience` before a stage is shown.
    pub fn new(progress: &'a Progress, patience: Duration) -> Self {
        Self { progress, patience, waiting: Mutex::new(None) }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Patient<'_> {
    fn begin(&self, stage: &str, total: u64, unit: &str) {
        let (name, unit) = (stage.to_owned(), unit.to_owned());
        *self.waiting() = Some(Waiting { name, unit, total, done: 0, start: Instant::now() });
    }

    fn advance(&self, pieces: u64) {
        let mut guard = self.waiting();
        let Some(stage) = guard.as_mut() else { return self.progress.advance(pieces) };
        stage.done += pieces;
        if stage.start.elapsed() >= self.patience {
            self.progress.begin(&stage.name, stage.total, &stage.unit);
            // Piece by piece: they are this run's and count for the rate.
            (0..stage.done).for_each(|_| self.progress.advance(1));
            self.progress.back_date(stage.start);
            *guard = None;
        }
    }

    fn end(&self) {
        if self.waiting().take().is_none() {
            self.progress.end();
        }
    }

    fn warn(&self, message: &str) {
        self.progress.warn(message);
    }

    fn interrupted(&self) -> bool {
        self.progress.interrupted()
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    // Nothing is said before anything is known.
    let pace = |s: &ProgressState, w: &mut dyn std::fmt::Write| {
        if s.per_sec() > 0.0 && s.pos() > 0 {
            let _ = write!(w, ", {:.1}/s, {} left", s.per_sec(), duration(s.eta()));
        }
    };
    style.with_key("pace", pace).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_is_valid() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }

    #[test]
    fn pieces_of_an_earlier_run_do_not_count_for_the_rate() {
        let p = Progress::new(Printer::Quiet);
        p.begin("training", 1000, "steps");
        p.advance(900);
        assert_eq!(p.stage().as_ref().unwrap().line(), "training: 900 of 1000 steps");
        p.stage().as_mut().unwrap().start = Instant::now() - Duration::from_secs(10);
        for _ in 0..20 {
            p.advance(1);
        }
        let line = p.stage().as_ref().unwrap().line();
        assert!(
            line.starts_with("training: 920 of 1000 steps, 2.0/s, ") && line.contains("40 s left"),
            "{line}"
        );
        p.end();
        p.advance(1); // Between stages nothing is counted, and nothing breaks.
        assert!(!p.interrupted());
    }
}
