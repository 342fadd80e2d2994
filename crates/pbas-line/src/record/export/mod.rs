//! The record for other programs and for people: a table, CSV, JSON lines, Parquet. Rows are streamed: the length of the record costs no
//! memory.

mod parquet;

use std::io::{self, Write};

use pbas::{Error, ErrorKind, Result};

use super::{Filter, Part, Record};

/// How parts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Table,
    /// A header and one row a part; regions as JSON in one column.
    Csv,
    /// One JSON object a part, as `pbas watch` prints it.
    Jsonl,
    /// One file with a column for every field.
    Parquet,
}

/// The columns of CSV and Parquet.
pub const COLUMNS: [&str; 20] = [
    "id",
    "time",
    "name",
    "size",
    "sha256",
    "model",
    "model_digest",
    "verdict",
    "image_score",
    "threshold",
    "p_value",
    "value",
    "peak",
    "width",
    "height",
    "regions",
    "decode_ms",
    "judge_ms",
    "error",
    "review",
];

impl Record {
    /// Writes the parts that a filter lets through; how many they were. A reader that goes away early is no fault.
    ///
    /// # Errors
    /// The record cannot be read, or the output cannot be written.
    pub fn export(&self, filter: &Filter, format: Format, out: impl Write + Send) -> Result<u64> {
        let mut out = Counted { out: io::BufWriter::with_capacity(1 << 16, out), closed: false };
        let written = match format {
            Format::Table => table(self, filter, &mut out),
            Format::Csv => csv_rows(self, filter, &mut out),
            Format::Jsonl => json_lines(self, filter, &mut out),
            Format::Parquet => parquet::write(self, filter, &mut out),
        };
        match written {
            Err(_) if out.closed => Ok(0),
            Ok(n) => match out.flush() {
                Err(_) if out.closed => Ok(n),
                flushed => flushed.map(|()| n).map_err(unwritable),
            },
            failed => failed,
        }
    }
}

/// Remembers that the reader went away, through whatever library writes.
struct Counted<W: Write> {
    out: W,
    closed: bool,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.closed |= written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.closed |= flushed.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        flushed
    }
}

fn unwritable(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Io, "cannot write the parts").with_source(e)
}

fn each(record: &Record, filter: &Filter, mut write: impl FnMut(Part) -> Result<()>) -> Result<u64> {
    let mut count = 0;
    record.for_each(filter, |part| {
        count += 1;
        write(part).map(|()| true)
    })?;
    Ok(count)
}

fn json_lines(record: &Record, filter: &Filter, out: &mut impl Write) -> Result<u64> {
    each(record, filter, |part| {
        serde_json::to_writer(&mut *out, &part).map_err(unwritable)?;
        out.write_all(b"\n").map_err(unwritable)
    })
}

fn csv_rows(record: &Record, filter: &Filter, out: &mut impl Write) -> Result<u64> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS).map_err(unwritable)?;
    let count = each(record, filter, |part| {
        let said = part.said.as_ref();
        let figure = |f: Option<f64>| f.map(|f| f.to_string()).unwrap_or_default();
        let whole = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
        let row = [
            part.id.to_string(),
            part.time.to_string(),
            part.name.clone(),
            part.size.to_string(),
            part.sha256.clone(),
            part.model.clone(),
            part.model_digest.clone(),
            said.map(|s| s.verdict.word()).unwrap_or_default().to_owned(),
            figure(said.map(|s| s.image_score)),
            figure(said.map(|s| s.threshold)),
            figure(said.map(|s| s.p_value)),
            figure(said.map(|s| s.value)),
            figure(said.map(|s| s.peak)),
            whole(said.map(|s| s.width)),
            whole(said.map(|s| s.height)),
            said.map(|s| serde_json::to_string(&s.regions))
                .transpose()
                .map_err(unwritable)?
                .unwrap_or_default(),
            figure(said.map(|s| s.decode_ms)),
            figure(said.map(|s| s.judge_ms)),
            part.error.clone().unwrap_or_default(),
            part.review.map(super::Review::word).unwrap_or_default().to_owned(),
        ];
        writer.write_record(row).map_err(unwritable)
    })?;
    writer.flush().map_err(unwritable)?;
    Ok(count)
}

fn table(record: &Record, filter: &Filter, out: &mut impl Write) -> Result<u64> {
    let header = ["part", "time (UTC)", "verdict", "score", "threshold", "review", "model", "name"];
    let mut row = |cells: [&str; 8]| {
        let [id, time, verdict, score, threshold, review, model, name] = cells;
        writeln!(
            out,
            "{id:>8}  {time:<19}  {verdict:<9}  {score:>8}  {threshold:>9}  {review:<7}  {model:<12}  {name}"
        )
        .map_err(unwritable)
    };
    row(header)?;
    each(record, filter, |part| {
        let said = part.said.as_ref();
        let figure = |f: Option<f64>| f.map_or_else(|| "-".to_owned(), |f| format!("{f:.4}"));
        let time = part.time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let mut name = on_one_line(&part.name);
        if let Some(error) = &part.error {
            name.push_str(": ");
            name.push_str(&on_one_line(error));
        }
        row([
            &part.id.to_string(),
            &time,
            said.map_or("error", |s| s.verdict.word()),
            &figure(said.map(|s| s.image_score)),
            &figure(said.map(|s| s.threshold)),
            part.review.map_or("-", super::Review::word),
            &on_one_line(&part.model),
            &name,
        ])
    })
}

/// What a terminal would obey is written out.
fn on_one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}
