//! `pbas history`: parts of a record, and whether the record is as it was written.

use std::io::{self, IsTerminal};
use std::path::Path;

use pbas::detector::Verdict;
use pbas::{Error, Result};
use pbas_line::record::export::Format;
use pbas_line::record::{Filter, Record, Review};

use crate::args::{History, HistoryCommand, HistoryFormat, ReviewName, VerdictName, Verify};
use crate::output::{Printer, Status, data};

/// Digits of a model's digest that are taken for one.
const DIGITS: usize = 8;

/// Runs the command.
///
/// # Errors
/// The record cannot be read, or the output cannot be written.
pub fn run(args: &History, printer: Printer) -> Result<Status> {
    if let Some(HistoryCommand::Verify(args)) = &args.command {
        return verify(args);
    }
    let file = args.file.as_ref().ok_or_else(|| Error::caller("history: expected a record, found none"))?;
    let record = Record::open_to_read(file)?;
    let filter = filter(args, &record)?;
    let format = match args.format {
        HistoryFormat::Table => Format::Table,
        HistoryFormat::Csv => Format::Csv,
        HistoryFormat::Jsonl => Format::Jsonl,
        HistoryFormat::Parquet => Format::Parquet,
    };
    let Some(output) = &args.output else {
        if format == Format::Parquet && io::stdout().is_terminal() {
            return Err(Error::caller("history: expected a file for Parquet, found a terminal")
                .with_hint("add `-o FILE`"));
        }
        record.export(&filter, format, io::stdout())?;
        return Ok(Status::Done);
    };
    let written = write_file(output, |out| record.export(&filter, format, out))?;
    printer.say(&format!("{written} parts in {}", output.display()));
    Ok(Status::Done)
}

/// Writes a file beside its place, then renames it: a reader never sees half of it.
fn write_file<T>(path: &Path, write: impl FnOnce(&mut std::fs::File) -> Result<T>) -> Result<T> {
    let cannot = |e| Error::io("cannot write", path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".history-").suffix(".tmp");
    #[cfg(unix)]
    {
        // A temporary file is the owner's alone; this one gets what the umask leaves, as any file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(cannot)?;
    let value = write(file.as_file_mut())?;
    file.persist(path).map_err(|e| cannot(e.error))?;
    Ok(value)
}

fn filter(args: &History, record: &Record) -> Result<Filter> {
    let mut filter = Filter { since: args.since, until: args.until, ..Filter::default() };
    match args.verdict {
        Some(VerdictName::Normal) => filter.verdict = Some(Verdict::Normal),
        Some(VerdictName::Anomalous) => filter.verdict = Some(Verdict::Anomalous),
        Some(VerdictName::Error) => filter.failed = true,
        None => {}
    }
    filter.review = args.review.map(|r| match r {
        ReviewName::Good => Some(Review::Good),
        ReviewName::Defect => Some(Review::Defect),
        ReviewName::Skipped => Some(Review::Skipped),
        ReviewName::None => None,
    });
    if let Some(model) = &args.model {
        let models = record.models()?;
        let named = models.iter().any(|m| m.name == *model);
        let is_digest = model.len() >= DIGITS && model.bytes().all(|b| b.is_ascii_hexdigit());
        match models.iter().find(|m| is_digest && m.digest.starts_with(&model.to_ascii_lowercase())) {
            Some(found) if !named => filter.model_digest = Some(found.digest.clone()),
            _ => filter.model = Some(model.clone()),
        }
    }
    if let Some(limit) = args.limit {
        // The latest ones, and yet in order: from the first of them on.
        let latest = Filter { latest_first: true, limit: Some(limit), ..filter.clone() };
        let first = record.parts(&latest)?.last().map_or(i64::MAX, |p| p.id);
        filter.after = Some(first - 1);
    }
    Ok(filter)
}

fn verify(args: &Verify) -> Result<Status> {
    let record = Record::open_to_read(&args.file)?;
    let mut found = record.verify()?;
    if let Some(expected) = &args.expect {
        let parsed =
            expected.split_once(':').and_then(|(id, digest)| Some((id.parse::<i64>().ok()?, digest)));
        let (id, digest) = parsed
            .ok_or_else(|| Error::caller(format!("--expect: expected PART:DIGEST, found `{expected}`")))?;
        match record.digest(id)? {
            Some(d) if d == digest => {}
            Some(d) => found.faults.push(format!("part {id}: expected digest {digest}, found {d}")),
            None => found.faults.push(format!("part {id}: expected digest {digest}, found no such part")),
        }
    }
    let text = if args.json {
        let json = serde_json::to_string_pretty(&found);
        json.map_err(|e| Error::input("cannot write what was found").with_source(e))? + "\n"
    } else {
        let mut text = format!(
            "parts      {}, {} of their thumbnails and maps kept\nreviews    {}\nremoved    {} rows, signed off by retention\n",
            found.parts, found.pictures, found.reviews, found.removed
        );
        if let Some((id, digest)) = &found.head {
            text.push_str(&format!("last part  {id}:{digest}\n"));
        }
        found.notes.iter().for_each(|n| text.push_str(&format!("note       {n}\n")));
        found.faults.iter().for_each(|f| text.push_str(&format!("fault      {f}\n")));
        text.push_str(match found.faults.is_empty() {
            true => "every digest fits: nothing was edited, removed or put elsewhere\n",
            false => "the record is not as it was written\n",
        });
        text
    };
    data(text.as_bytes())?;
    Ok(if found.faults.is_empty() { Status::Done } else { Status::SomeFailed })
}
