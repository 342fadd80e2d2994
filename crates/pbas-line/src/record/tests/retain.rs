//! Retention removes what it may, and the chain still holds.

use super::super::ledger::Kind;
use super::super::retain::{Retained, Retention};
use super::ledger::taken;
use super::*;

fn ids(record: &Record) -> Vec<i64> {
    record.parts(&Filter::default()).unwrap().iter().map(|p| p.id).collect()
}

fn keep(record: &Record, seconds: i64, now: i64) -> Retained {
    let retention = Retention { keep: Some(SignedDuration::from_secs(seconds)), max_size: None };
    record.retain(&retention, time(now)).unwrap()
}

#[track_caller]
fn holds(record: &Record, parts: u64, removed: u64) {
    let found = record.verify().unwrap();
    assert_eq!((found.faults, found.parts, found.removed), (Vec::new(), parts, removed));
}

#[test]
fn old_parts_go_and_what_is_under_review_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    // Rejected are 2, 3, 5 and 6; 3 is a defect, 5 was skipped and 6 withdrawn.
    let record = four(&path);
    record.add(&judged("e", 4, Verdict::Anomalous)).unwrap();
    record.add(&judged("f", 5, Verdict::Anomalous)).unwrap();
    record.add(&judged("g", 6, Verdict::Normal)).unwrap();
    record.review(3, Review::Defect).unwrap();
    record.review(5, Review::Skipped).unwrap();
    record.review(6, Review::Good).unwrap();
    record.review(6, None).unwrap();
    assert_eq!(keep(&record, 100, 100).parts, 0);
    assert_eq!(keep(&record, 100, 106).parts, 3, "1, 3 and 4; 7 is not older than that");
    assert_eq!(ids(&record), [2, 5, 6, 7]);
    // Reviews 1 (of part 3) went with it.
    holds(&record, 4, 4);
    assert!(record.thumbnail(2).unwrap().is_some());
    // Once they are reviewed they may go, and the cuts join.
    record.review(2, Review::Good).unwrap();
    record.review(5, Review::Defect).unwrap();
    assert_eq!(keep(&record, 100, 1000).parts, 3);
    assert_eq!(ids(&record), [6]);
    holds(&record, 1, 10);
    record.review(6, Review::Good).unwrap();
    keep(&record, 100, 1000);
    holds(&record, 0, 14);
    // The chain goes on behind what was cut, also after a restart.
    drop(record);
    let record = Record::open(&path).unwrap();
    assert_eq!(record.add(&judged("h", 2000, Verdict::Normal)).unwrap().id, 8);
    record.review(8, Review::Good).unwrap();
    holds(&record, 1, 14);
}

#[test]
fn a_part_removed_beside_retention_shows_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let record = four(&folder.path().join("line.sqlite"));
    keep(&record, 1, 100);
    assert_eq!(ids(&record), [2, 3]);
    record.writer().execute_batch("DELETE FROM pictures; DELETE FROM parts WHERE id = 3").unwrap();
    let faults = record.verify().unwrap().faults;
    assert_eq!(faults[0], "part 3 is missing: it was removed, and not by retention");
    // A cut that was made longer does not hold either.
    record.writer().execute_batch("UPDATE cuts SET first_id = 3, count = 2 WHERE first_id = 4").unwrap();
    let faults = record.verify().unwrap().faults;
    assert_eq!(
        faults[0],
        "cut 2: its digest does not fit: this row, or the digest of the row before it, was edited"
    );
}

#[test]
fn what_has_something_to_be_done_stays() {
    let record = Record::in_memory().unwrap();
    record.add_file(&judged("a", 0, Verdict::Normal), &taken("a"), &[Kind::Mqtt]).unwrap();
    assert_eq!(keep(&record, 1, 100).parts, 0);
    record.note_done(&[(1, None)]).unwrap();
    assert_eq!(keep(&record, 1, 100).parts, 1);
}

#[test]
fn a_record_that_is_too_large_loses_old_pictures_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    let record = Record::open(&path).unwrap();
    for i in 0..300 {
        let verdict = if i == 7 { Verdict::Anomalous } else { Verdict::Normal };
        let mut part = judged("a", i, verdict);
        part.outcome.as_mut().unwrap().thumbnail = Some(vec![i as u8; 4000]);
        record.add(&part).unwrap();
    }
    let size = |max| Retention { keep: None, max_size: Some(max) };
    let all = record.retain(&size(1 << 30), time(0)).unwrap();
    assert_eq!((all.parts, all.pictures, all.over), (0, 0, false));
    let less = record.retain(&size(all.bytes * 3 / 4), time(0)).unwrap();
    assert_eq!((less.parts, less.pictures, less.over), (0, 100, false), "{less:?}");
    assert!(record.thumbnail(101).unwrap().is_none() && record.thumbnail(102).unwrap().is_some());
    assert!(record.thumbnail(8).unwrap().is_some(), "it is under review");
    holds(&record, 300, 0);
    let on_disk = std::fs::metadata(&path).unwrap().len();
    assert!(on_disk <= all.bytes * 4 / 5, "room goes back to the system: {on_disk} of {}", all.bytes);
    let least = record.retain(&size(1), time(0)).unwrap();
    assert!(least.over, "{least:?}");
    assert_eq!(ids(&record), [8]);
    holds(&record, 1, 299);
}
