//! `pbas report`: the finished runs of a benchmark as one page, as Markdown and as CSV.

use pbas::Result;
use pbas::bench::read_results;
use pbas::report::bench::report;

use crate::args::Report;
use crate::output::{Printer, Status, bytes};
use crate::paths::{check_file, write_file};

/// Runs the command.
///
/// # Errors
/// No results there, or an output that cannot be written.
pub fn run(args: &Report, printer: Printer) -> Result<Status> {
    let html = args.output.clone().unwrap_or_else(|| args.dir.join("report.html"));
    let (config, records) = read_results(&args.dir)?;
    let beside =
        [("report", "md"), ("table", "csv")].map(|(what, extension)| (what, html.with_extension(extension)));
    check_file("report", &html)?;
    let title = args.title.clone().unwrap_or_else(|| {
        let dir = args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone());
        let name = dir.file_name().map_or_else(|| "results".into(), |n| n.to_string_lossy());
        format!("Benchmark {name}")
    });
    let made = report(&args.dir, &config, &records, &title)?;
    write_file("report", &html, made.html.as_bytes())?;
    for ((what, path), text) in beside.iter().zip([&made.markdown, &made.csv]) {
        write_file(what, path, text.as_bytes())?;
        printer.say(&format!("{what}: {}", path.display()));
    }
    printer.say(&format!("page: {} ({})", html.display(), bytes(made.html.len() as u64)));
    Ok(Status::Done)
}
