//! The record: what goes in comes out, in order, through every filter.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use pbas::detector::Verdict;
use pbas::score::Region;

use super::*;

mod export;
mod faults;
mod ledger;
mod retain;
mod verify;

/// A time that is not now.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// A judged part.
pub fn judged(name: &str, seconds: i64, verdict: Verdict) -> NewPart {
    let region = Region { x: 1, y: 2, width: 3, height: 4, area: 9, peak: 7.5 };
    let said = Said {
        image_score: if verdict == Verdict::Normal { 0.25 } else { 2.75 },
        threshold: 2.0,
        p_value: 0.1,
        verdict,
        value: -1.5,
        peak: 7.5,
        width: 640,
        height: 480,
        regions: vec![region; usize::from(verdict == Verdict::Anomalous)],
        decode_ms: 1.25,
        judge_ms: 3.0,
        thumbnail: Some(vec![1, 2, 3]),
        map: Some(vec![4, 5]),
    };
    NewPart {
        time: time(seconds),
        name: name.to_owned(),
        size: 1234,
        sha256: "ab".repeat(32),
        model: "part".to_owned(),
        model_digest: "cd".repeat(32),
        outcome: Ok(said),
    }
}

/// A part that could not be judged.
pub fn failed(name: &str, seconds: i64) -> NewPart {
    NewPart { outcome: Err("is empty".to_owned()), ..judged(name, seconds, Verdict::Normal) }
}

/// A record with four parts, of which the last could not be judged.
pub fn four(path: &Path) -> Record {
    let record = Record::open(path).unwrap();
    record.add(&judged("a", 0, Verdict::Normal)).unwrap();
    record.add(&judged("b", 1, Verdict::Anomalous)).unwrap();
    record.add(&judged("c", 2, Verdict::Anomalous)).unwrap();
    record.add(&failed("d", 3)).unwrap();
    record
}

#[test]
fn parts_come_back_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    let record = four(&path);
    let new = judged("name with\nnewline \"quotes\" ../ and 'more'", 4, Verdict::Anomalous);
    let part = record.add(&new).unwrap();
    assert_eq!((part.id, &part.name, part.time), (5, &new.name, new.time));
    assert_eq!(record.part(5).unwrap().as_ref(), Some(&part));
    assert_eq!(part.said.as_ref().unwrap().regions, new.outcome.as_ref().unwrap().regions);
    assert_eq!(record.thumbnail(5).unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(record.map(5).unwrap(), Some(vec![4, 5]));
    assert_eq!(record.thumbnail(4).unwrap(), None);
    assert_eq!(record.part(6).unwrap(), None);
    let error = record.part(4).unwrap().unwrap();
    assert_eq!((error.said, error.error.as_deref()), (None, Some("is empty")));
    drop(record);
    // Numbers go on after a restart.
    assert_eq!(Record::open(&path).unwrap().add(&failed("e", 5)).unwrap().id, 6);
}

#[test]
fn reviews_are_added_and_the_last_one_counts() {
    let record = Record::in_memory().unwrap();
    record.add(&judged("a", 0, Verdict::Anomalous)).unwrap();
    assert_eq!(record.part(1).unwrap().unwrap().review, None);
    assert_eq!(record.review(1, Review::Skipped).unwrap().review, Some(Review::Skipped));
    assert_eq!(record.review(1, Review::Good).unwrap().review, Some(Review::Good));
    assert_eq!(record.review(1, None).unwrap().review, None);
    let open = Filter { review: Some(None), ..Filter::default() };
    assert_eq!(record.count(&open).unwrap(), 1, "a withdrawn review is none");
    let e = record.review(2, Review::Good).unwrap_err();
    assert_eq!(e.to_string(), "part 2: expected one in the record, found none");
    let rows: i64 = record.reader().query_row("SELECT count(*) FROM reviews", [], |r| r.get(0)).unwrap();
    assert_eq!(rows, 3);
}

#[test]
fn filters_let_through_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let record = four(&folder.path().join("line.sqlite"));
    record.review(2, Review::Good).unwrap();
    let cases: [(&str, Filter, &[i64]); 14] = [
        ("all", Filter::default(), &[1, 2, 3, 4]),
        ("latest first", Filter { latest_first: true, ..Filter::default() }, &[4, 3, 2, 1]),
        ("limit", Filter { latest_first: true, limit: Some(2), ..Filter::default() }, &[4, 3]),
        ("since", Filter { since: Some(time(1)), ..Filter::default() }, &[2, 3, 4]),
        ("until", Filter { until: Some(time(1)), ..Filter::default() }, &[1]),
        ("verdict", Filter { verdict: Some(Verdict::Anomalous), ..Filter::default() }, &[2, 3]),
        ("good", Filter { verdict: Some(Verdict::Normal), ..Filter::default() }, &[1]),
        ("failed", Filter { failed: true, ..Filter::default() }, &[4]),
        ("model", Filter { model: Some("part".into()), ..Filter::default() }, &[1, 2, 3, 4]),
        ("other model", Filter { model_digest: Some("cd".into()), ..Filter::default() }, &[]),
        ("reviewed", Filter { review: Some(Some(Review::Good)), ..Filter::default() }, &[2]),
        ("not reviewed", Filter { review: Some(None), ..Filter::default() }, &[1, 3, 4]),
        ("before and after", Filter { before: Some(4), after: Some(1), ..Filter::default() }, &[2, 3]),
        (
            "all at once",
            Filter {
                since: Some(time(0)),
                until: Some(time(9)),
                verdict: Some(Verdict::Anomalous),
                model: Some("part".into()),
                before: Some(4),
                review: Some(None),
                ..Filter::default()
            },
            &[3],
        ),
    ];
    for (name, filter, expected) in cases {
        let found: Vec<i64> = record.parts(&filter).unwrap().iter().map(|p| p.id).collect();
        assert_eq!(found, expected, "{name}");
        if filter.limit.is_none() {
            assert_eq!(record.count(&filter).unwrap(), expected.len() as u64, "{name}");
        }
    }
}

#[test]
fn a_clock_set_back_keeps_the_order_and_the_times() {
    let record = Record::in_memory().unwrap();
    record.add(&judged("a", 100, Verdict::Normal)).unwrap();
    let new = NewPart { time: time(100) - SignedDuration::from_hours(1), ..judged("b", 0, Verdict::Normal) };
    assert_eq!(record.add(&new).unwrap().id, 2);
    let times: Vec<Timestamp> = record.parts(&Filter::default()).unwrap().iter().map(|p| p.time).collect();
    assert_eq!(times, [time(100), new.time]);
}

#[test]
fn a_closed_record_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    let record = four(&path);
    assert_eq!(record.count(&Filter::default()).unwrap(), 4);
    drop(record.clone());
    drop(record);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "its log is put into it");
}

#[test]
fn a_record_in_memory_stays_small() {
    let record = Record::in_memory().unwrap();
    for i in 0..5_010 {
        record.add(&judged("a", i, Verdict::Normal)).unwrap();
    }
    assert_eq!(record.count(&Filter::default()).unwrap(), 5_000);
    assert!(record.part(10).unwrap().is_none() && record.part(11).unwrap().is_some());
    assert!(record.thumbnail(4_754).unwrap().is_none() && record.thumbnail(4_755).unwrap().is_some());
}

#[test]
fn a_figure_that_is_no_number_is_refused_and_leaves_nothing() {
    let record = Record::in_memory().unwrap();
    let mut part = judged("a", 0, Verdict::Normal);
    part.outcome.as_mut().unwrap().value = f64::NAN;
    let e = record.add(&part).unwrap_err();
    assert!(pbas::error::chain(&e).contains("not a number"), "{e:?}");
    assert_eq!(record.add(&failed("b", 0)).unwrap().id, 1);
}
