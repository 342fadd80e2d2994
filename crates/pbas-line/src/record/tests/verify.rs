//! What `history verify` finds.

use rusqlite::Connection;

use super::*;

/// What verify says after these statements were run behind the record's back.
fn after(sql: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    let record = four(&path);
    record.review(2, Review::Good).unwrap();
    record.review(3, Review::Defect).unwrap();
    drop(record);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    Record::open_to_read(&path).unwrap().verify().unwrap().faults
}

#[test]
fn an_untouched_record_holds() {
    let folder = tempfile::tempdir().unwrap();
    let record = four(&folder.path().join("line.sqlite"));
    record.review(2, Review::Good).unwrap();
    let found = record.verify().unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!((found.parts, found.reviews, found.removed, found.pictures), (4, 1, 0, 6));
    assert_eq!(found.head.unwrap().0, 4);
    assert_eq!(Record::in_memory().unwrap().verify().unwrap().head, None);
}

#[test]
fn what_was_done_to_a_record_shows_with_its_place() {
    let edited = "part 2: its digest does not fit: this row, or the digest of the row before it, was edited";
    let last = "part 4: its digest does not fit: this row, or the digest of the row before it, was edited";
    let cases: [(&str, &[&str]); 13] = [
        ("UPDATE parts SET image_score = 0.5 WHERE id = 2", &[edited]),
        ("UPDATE parts SET verdict = 'normal' WHERE id = 2", &[edited]),
        ("UPDATE parts SET name = 'x' WHERE id = 4", &[last]),
        ("UPDATE parts SET error = '' WHERE id = 4", &[last]),
        ("DELETE FROM parts WHERE id = 1", &["part 1 is missing: it was removed, and not by retention"]),
        (
            "DELETE FROM parts WHERE id IN (2, 3)",
            &[
                "parts 2 to 3 are missing: they were removed, and not by retention",
                "review 1: expected part 2 in the record, found none",
                "review 2: expected part 3 in the record, found none",
            ],
        ),
        ("DELETE FROM parts WHERE id = 4", &["part 4 is missing: it was removed, and not by retention"]),
        (
            "UPDATE parts SET id = 9 WHERE id = 2; UPDATE parts SET id = 2 WHERE id = 3; UPDATE parts SET id = 3 WHERE id = 9;",
            &[
                edited,
                "part 3: its digest does not fit: this row, or the digest of the row before it, was edited",
                last,
            ],
        ),
        (
            "UPDATE reviews SET review = 'defect' WHERE id = 1",
            &["review 1: its digest does not fit: this row was edited"],
        ),
        ("DELETE FROM reviews WHERE id = 2", &["review 2 is missing: it was removed, and not by retention"]),
        (
            "UPDATE pictures SET map = x'00' WHERE part = 3",
            &["part 3: its map is not the one that was recorded"],
        ),
        ("DELETE FROM pictures", &[]),
        (
            "DELETE FROM parts WHERE id = 1; INSERT INTO cuts VALUES (1, 0, 'parts', 1, 1, 1, '', '', 'x', '');",
            &[
                "cut 1: its digest does not fit: this row was edited",
                "parts 1 to 1: what retention signed off does not fit",
                edited,
            ],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(after(sql), expected, "{sql}");
    }
}

#[test]
fn a_digest_made_anew_shows_in_the_row_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.sqlite");
    drop(four(&path));
    // An editor that knows the rule and recomputes the digest of the row that it edits.
    let other = Record::open(&folder.path().join("other.sqlite")).unwrap();
    other.add(&judged("a", 0, Verdict::Normal)).unwrap();
    other.add(&judged("edited", 1, Verdict::Anomalous)).unwrap();
    let digest: String =
        other.reader().query_row("SELECT digest FROM parts WHERE id = 2", [], |r| r.get(0)).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE parts SET name = 'edited', digest = ? WHERE id = 2", [digest]).unwrap();
    let faults = Record::open_to_read(&path).unwrap().verify().unwrap().faults;
    assert_eq!(
        faults,
        ["part 3: its digest does not fit: this row, or the digest of the row before it, was edited"]
    );
}

#[test]
fn a_clock_set_back_is_noted_and_no_fault() {
    let record = Record::in_memory().unwrap();
    record.add(&judged("a", 100, Verdict::Normal)).unwrap();
    record.add(&judged("b", 98, Verdict::Normal)).unwrap();
    record.add(&judged("c", 40, Verdict::Normal)).unwrap();
    let found = record.verify().unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!(found.notes, ["part 3: the clock went back by 58 s; numbers keep the order"]);
}
