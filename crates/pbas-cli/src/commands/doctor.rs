//! `pbas doctor`: looks at a picture set before anything is trained on it.

use std::time::{Duration, Instant};

use pbas::backbone::Backbone;
use pbas::doctor::report::{Report, Severity};
use pbas::doctor::{DoctorOptions, examine, facts, html, pictures};
use pbas::settings::{Preset, Settings};
use pbas::{Error, ErrorKind, Result};

use crate::args::Doctor;
use crate::output::{Printer, Status, data, duration};
use crate::paths::{check_file, write_file};
use crate::progress::{Patient, Progress};

/// Runs the command.
///
/// # Errors
/// The folder holds no pictures, none of them can be read, or an output cannot be written. What is wrong with the
/// pictures is the report's matter.
pub fn run(args: &Doctor, printer: Printer) -> Result<Status> {
    if let Some(path) = &args.html {
        check_file("page", path)?;
    }
    let progress = Progress::new(printer);
    let (set, odd) = pictures(&args.dir)?;
    let options = DoctorOptions {
        settings: Settings::preset(Preset::from(args.preset)),
        backbone: Some(Backbone::embedded()?),
        cache_limit: args.cache_limit,
        thumbnails: args.html.is_some(),
    };
    let start = Instant::now();
    let mut examination = examine(&set, &options, &Patient::new(&progress, PATIENCE))?;
    examination.report.add_test_oddities(&odd);
    if let Some(path) = &args.html {
        let title = args.dir.display().to_string();
        write_file("page", path, html(&examination, &title)?.as_bytes())?;
    }
    let report = &examination.report;
    let text = if args.json {
        let text = serde_json::to_string_pretty(report);
        text.map_err(|e| Error::new(ErrorKind::Io, "cannot write the report").with_source(e))? + "\n"
    } else {
        as_text(report)
    };
    data(text.as_bytes())?;
    if start.elapsed() > PATIENCE {
        printer.say(&format!("{} pictures in {}", set.len(), duration(start.elapsed())));
    }
    if let Some(path) = &args.html {
        printer.say(&format!("page: {}", path.display()));
    }
    // The report says why; but nothing was examined.
    Ok(if report.good.readable == 0 { Status::SomeFailed } else { Status::Done })
}

/// Work shorter than this shows no progress.
const PATIENCE: Duration = Duration::from_secs(2);

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<12} {value}\n"));
    line("verdict", &report.verdict);
    facts(report).iter().for_each(|(name, value)| line(name, value));
    for finding in &report.findings {
        let word = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        text.push_str(&format!("\n{word}: {}\n", finding.message));
        if !finding.advice.is_empty() {
            text.push_str(&format!("  {}\n", finding.advice));
        }
        for shown in finding.shown.iter().take(SHOWN) {
            let gap = if shown.detail.is_empty() { "" } else { ": " };
            text.push_str(&format!("    {}{gap}{}\n", shown.pictures.join(" = "), shown.detail));
        }
        if finding.shown.len() > SHOWN {
            text.push_str(&format!(
                "    and {} more (--json or --html names all)\n",
                finding.shown.len() - SHOWN
            ));
        }
    }
    text
}

/// Pictures listed below a finding.
const SHOWN: usize = 8;
