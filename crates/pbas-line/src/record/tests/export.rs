//! What `history` writes can be read again.

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;

use super::super::export::{COLUMNS, Format};
use super::*;

fn awkward() -> Record {
    let record = Record::in_memory().unwrap();
    record.add(&judged("a,\"b\"\n../\u{1b}[31m", 0, Verdict::Anomalous)).unwrap();
    record.add(&failed("d", 3)).unwrap();
    record.review(1, Review::Good).unwrap();
    record
}

fn written(record: &Record, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(record.export(&Filter::default(), format, &mut out).unwrap(), 2);
    out
}

#[test]
fn csv_and_json_lines_keep_every_field() {
    let record = awkward();
    let part = record.part(1).unwrap().unwrap();
    let bytes = written(&record, Format::Csv);
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    assert_eq!(reader.headers().unwrap(), &COLUMNS[..]);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0][2], &rows[0][7], &rows[0][8], &rows[0][19]),
        (&*part.name, "anomalous", "2.75", "good")
    );
    let regions: Vec<Region> = serde_json::from_str(&rows[0][15]).unwrap();
    assert_eq!(regions, part.said.as_ref().unwrap().regions);
    assert_eq!((&rows[1][7], &rows[1][8], &rows[1][18]), ("", "", "is empty"));

    let lines = String::from_utf8(written(&record, Format::Jsonl)).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0], serde_json::to_value(&part).unwrap());
    assert_eq!(lines[1]["error"], "is empty");
}

#[test]
fn a_table_has_one_line_a_part_and_nothing_that_a_terminal_obeys() {
    let text = String::from_utf8(written(&awkward(), Format::Table)).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains('\u{1b}') && text.contains(r"\n../\u{1b}[31m"), "{text}");
}

#[test]
fn parquet_is_read_by_its_own_reader() {
    let record = awkward();
    let reader = SerializedFileReader::new(parquet_bytes(written(&record, Format::Parquet))).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 2);
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let part = record.part(1).unwrap().unwrap();
    assert_eq!(rows[0].get_long(0).unwrap(), 1);
    assert_eq!(rows[0].get_timestamp_micros(1).unwrap(), part.time.as_microsecond());
    assert_eq!(rows[0].get_string(2).unwrap(), &part.name);
    assert_eq!(rows[0].get_double(8).unwrap(), 2.75);
    assert_eq!(rows[0].get_int(13).unwrap(), 640);
    assert_eq!(rows[0].get_string(19).unwrap(), "good");
    assert!(rows[1].get_double(8).is_err(), "a part that could not be judged has no score");
    assert_eq!(rows[1].get_string(18).unwrap(), "is empty");
}

/// A file to read from.
fn parquet_bytes(bytes: Vec<u8>) -> std::fs::File {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn a_reader_that_goes_away_is_no_fault_and_a_full_disk_is() {
    struct Broken(std::io::ErrorKind);
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(self.0.into())
        }
    }
    let record = awkward();
    for format in [Format::Table, Format::Csv, Format::Jsonl, Format::Parquet] {
        let out = |kind| record.export(&Filter::default(), format, Broken(kind));
        assert!(out(std::io::ErrorKind::BrokenPipe).is_ok(), "{format:?}");
        assert_eq!(
            out(std::io::ErrorKind::StorageFull).unwrap_err().kind(),
            pbas::ErrorKind::Io,
            "{format:?}"
        );
    }
}
