//! Files that cannot be used, each with what is said.

use std::time::Duration;

use pbas::{Error, ErrorKind};
use rusqlite::Connection;

use super::*;

#[track_caller]
fn says(e: &Error, kind: ErrorKind, text: &str) {
    assert_eq!(e.kind(), kind, "{e:?}");
    assert!(e.to_string().contains(text) && e.hint().is_some(), "expected `{text}` in {e:?}");
}

#[test]
fn other_files_and_other_schemas_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text"), "this is no database, and it is long enough to be looked at\n".repeat(20))
        .unwrap();
    Connection::open(at("other")).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    drop(four(&at("later")));
    Connection::open(at("later")).unwrap().execute_batch("PRAGMA user_version = 1000").unwrap();
    std::fs::write(at("empty"), "").unwrap();
    for open in [Record::open, Record::open_to_read] {
        says(&open(&at("text")).unwrap_err(), ErrorKind::Input, "found no SQLite database");
        says(&open(&at("other")).unwrap_err(), ErrorKind::Input, "found another SQLite database");
        says(&open(&at("later")).unwrap_err(), ErrorKind::Unsupported, "or older, found 1000");
        let e = open(&at("nowhere/line.sqlite")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.to_string().contains("nowhere/line.sqlite"), "{e}");
    }
    says(&Record::open_to_read(&at("empty")).unwrap_err(), ErrorKind::Input, "found another SQLite database");
    assert!(Record::open(&at("empty")).is_ok(), "an empty file is a new record");
    assert!(Record::open_to_read(&at("new")).is_err() && !at("new").exists());
}

#[test]
fn an_earlier_schema_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../schema_1.sql")).unwrap();
    old.execute_batch("PRAGMA user_version = 1; PRAGMA application_id = 0x50424153").unwrap();
    drop(old);
    says(&Record::open_to_read(&path).unwrap_err(), ErrorKind::Unsupported, "found the older 1");
    let record = Record::open(&path).unwrap();
    record.add(&judged("a", 0, Verdict::Normal)).unwrap();
    let version: i32 = record.reader().pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    assert_eq!(version, schema::VERSION);
    assert_eq!(Record::open_to_read(&path).unwrap().count(&Filter::default()).unwrap(), 1);
}

#[test]
fn a_locked_one_says_so_and_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    let record = four(&path);
    record.writer().busy_timeout(Duration::from_millis(20)).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM pictures").unwrap();
    says(&record.add(&failed("e", 9)).unwrap_err(), ErrorKind::Io, "is locked");
    assert_eq!(record.count(&Filter::default()).unwrap(), 4);
    assert!(Record::open_to_read(&path).unwrap().thumbnail(1).unwrap().is_some());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(record.add(&failed("e", 9)).unwrap().id, 5, "nothing was lost or given twice");
}

#[test]
fn a_full_disk_says_so_and_leaves_the_record_whole() {
    let folder = tempfile::tempdir().unwrap();
    let record = four(&folder.path().join("line.sqlite"));
    let pages: i64 = record.writer().pragma_query_value(None, "page_count", |r| r.get(0)).unwrap();
    record.writer().execute_batch(&format!("PRAGMA max_page_count = {}", pages + 1)).unwrap();
    let mut large = judged("e", 9, Verdict::Normal);
    large.outcome.as_mut().unwrap().thumbnail = Some(vec![7; 100_000]);
    says(&record.add(&large).unwrap_err(), ErrorKind::Io, "the disk is full");
    assert_eq!(record.count(&Filter::default()).unwrap(), 4);
    assert_eq!(record.verify().unwrap().faults, Vec::<String>::new());
    record.writer().execute_batch("PRAGMA max_page_count = 100000").unwrap();
    assert_eq!(record.add(&large).unwrap().id, 5);
}

#[test]
fn one_that_may_only_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    drop(four(&path));
    let record = Record::open_to_read(&path).unwrap();
    says(&record.add(&failed("e", 9)).unwrap_err(), ErrorKind::Io, "it is read-only");
    assert_eq!(record.count(&Filter::default()).unwrap(), 4);
}

#[test]
fn a_damaged_one_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    drop(four(&path));
    Connection::open(&path).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let e = Record::open_to_read(&path).and_then(|r| r.verify()).unwrap_err();
    says(&e, ErrorKind::Input, "is damaged");
}

#[test]
fn a_row_that_makes_no_sense_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    let record = four(&path);
    record.writer().execute_batch("UPDATE parts SET regions = 'x' WHERE id = 2").unwrap();
    says(&record.parts(&Filter::default()).unwrap_err(), ErrorKind::Input, "part 2: regions: ");
    record.writer().execute_batch("UPDATE parts SET verdict = 'maybe', regions = '[]' WHERE id = 2").unwrap();
    says(&record.part(2).unwrap_err(), ErrorKind::Input, "expected a verdict, found `maybe`");
}
