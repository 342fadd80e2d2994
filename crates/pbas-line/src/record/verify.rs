//! Does the record hold what was written? Every digest is computed again, and every row that is not there must have been cut by retention.

use pbas::Result;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Record;
use super::chain::{self, CUTS, Chain, FIRST, PARTS, REVIEWS};
use crate::judge::hex;

/// Times that go back by less, in microseconds, are not spoken of: pictures are judged side by side.
const BACK: i64 = 5_000_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Parts in the record.
    pub parts: u64,
    /// Reviews in the record.
    pub reviews: u64,
    /// Rows that retention has removed and signed off.
    pub removed: u64,
    /// Thumbnails and maps that are still kept, compared with their digests.
    pub pictures: u64,
    /// Number and digest of the last part: noted elsewhere, they prove later that nothing before was changed.
    pub head: Option<(i64, String)>,
    /// What does not hold, each with its place.
    pub faults: Vec<String>,
    /// What is odd and yet as it was recorded.
    pub notes: Vec<String>,
}

/// A run of rows that retention removed.
#[derive(Debug)]
struct Cut {
    chain: String,
    first: i64,
    last: i64,
    count: i64,
    before: String,
    after: String,
}

impl Record {
    /// Verifies the whole record as it is at this moment; others may write meanwhile.
    ///
    /// # Errors
    /// The file cannot be read. What does not hold is no error but a fault in the answer.
    pub fn verify(&self) -> Result<Verified> {
        let connection = self.reader();
        let verified = || -> rusqlite::Result<Verified> {
            // One transaction: one state of the file.
            let snapshot = connection.unchecked_transaction()?;
            verify(&snapshot)
        };
        verified().map_err(|e| self.fault(e))
    }
}

fn verify(connection: &Connection) -> rusqlite::Result<Verified> {
    let mut faults = Vec::new();
    let mut notes = Vec::new();
    walk(connection, CUTS, "cut", &[], &mut faults, |_, _, _| Ok(()))?;
    let cuts = read_cuts(connection)?;
    let mut pictures = 0;
    let mut last_time: Option<i64> = None;
    let (parts, head) = walk(connection, PARTS, "part", &cuts, &mut faults, |id, row, faults| {
        let time: i64 = row.get(1)?;
        if let Some(back) = last_time.map(|last| last - time).filter(|b| *b > BACK) {
            notes.push(format!(
                "part {id}: the clock went back by {} s; numbers keep the order",
                back / 1_000_000
            ));
        }
        last_time = Some(time);
        for (column, at) in [("thumbnail", 19), ("map", 20)] {
            let expected: Option<String> = row.get(at)?;
            let sql = format!("SELECT {column} FROM pictures WHERE part = ?");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([id])?;
            let Some(kept) = rows.next()?.map(|r| r.get::<_, Option<Vec<u8>>>(0)).transpose()?.flatten()
            else {
                continue;
            };
            pictures += 1;
            if expected != Some(hex(&Sha256::digest(&kept))) {
                faults.push(format!("part {id}: its {column} is not the one that was recorded"));
            }
        }
        Ok(())
    })?;
    let (reviews, _) = walk(connection, REVIEWS, "review", &cuts, &mut faults, |id, row, faults| {
        let part: i64 = row.get(1)?;
        let there: bool = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM parts WHERE id = ?)")?
            .query_row([part], |r| r.get(0))?;
        if !there {
            faults.push(format!("review {id}: expected part {part} in the record, found none"));
        }
        Ok(())
    })?;
    let removed = cuts.iter().map(|c| c.count.unsigned_abs()).sum();
    Ok(Verified { parts, reviews, removed, pictures, head, faults, notes })
}

fn read_cuts(connection: &Connection) -> rusqlite::Result<Vec<Cut>> {
    let sql = "SELECT chain, first_id, last_id, count, before, after FROM cuts ORDER BY chain, first_id";
    let mut statement = connection.prepare(sql)?;
    let cuts = statement.query_map([], |r| {
        Ok(Cut {
            chain: r.get(0)?,
            first: r.get(1)?,
            last: r.get(2)?,
            count: r.get(3)?,
            before: r.get(4)?,
            after: r.get(5)?,
        })
    })?;
    cuts.collect()
}

type Head = Option<(i64, String)>;

/// Walks along a chain, over rows and cuts; the number of rows, and the last of them.
fn walk(
    connection: &Connection,
    chain: Chain,
    word: &str,
    cuts: &[Cut],
    faults: &mut Vec<String>,
    mut each: impl FnMut(i64, &rusqlite::Row, &mut Vec<String>) -> rusqlite::Result<()>,
) -> rusqlite::Result<(u64, Head)> {
    let mut cuts = cuts.iter().filter(|c| c.chain == chain.table).peekable();
    let (mut before, mut next) = (FIRST.to_owned(), 1);
    // What stands before a row is unknown behind a gap: the row after it is believed, so that one fault is told once.
    let mut known = true;
    let mut over =
        |until: i64, next: &mut i64, before: &mut String, known: &mut bool, faults: &mut Vec<String>| {
            while let Some(cut) = cuts.next_if(|c| c.first < until) {
                if cut.first > *next {
                    faults.push(missing(word, *next, cut.first - 1));
                    *known = false;
                }
                let whole =
                    cut.first >= *next && cut.last >= cut.first && cut.count == cut.last - cut.first + 1;
                if !whole || (*known && cut.before != *before) {
                    faults.push(format!(
                        "{word}s {} to {}: what retention signed off does not fit",
                        cut.first, cut.last
                    ));
                }
                *next = cut.last + 1;
                before.clone_from(&cut.after);
                *known = true;
            }
        };
    let (mut count, mut head) = (0, None);
    let table = chain.table;
    let sql = format!("SELECT {}, digest FROM {table} ORDER BY id", chain.columns.join(", "));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        over(id, &mut next, &mut before, &mut known, faults);
        if id > next {
            faults.push(missing(word, next, id - 1));
            known = false;
        } else if id < next {
            faults.push(format!("{word} {id}: expected none, as retention has signed off its removal"));
        }
        let fields =
            (0..chain.columns.len()).map(|i| row.get_ref(i)).collect::<rusqlite::Result<Vec<ValueRef>>>()?;
        let stored: String = row.get(chain.columns.len())?;
        if known && chain::digest(&before, fields) != stored {
            let place = if next > 1 { ", or the digest of the row before it," } else { "" };
            faults.push(format!("{word} {id}: its digest does not fit: this row{place} was edited"));
        }
        each(id, row, faults)?;
        (count, next, known) = (count + 1, id.max(next - 1) + 1, true);
        before.clone_from(&stored);
        head = Some((id, stored));
    }
    over(i64::MAX, &mut next, &mut before, &mut known, faults);
    let given: i64 = connection.query_row(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?",
        [table],
        |r| r.get(0),
    )?;
    if given >= next {
        faults.push(missing(word, next, given));
    }
    Ok((count, head))
}

fn missing(word: &str, first: i64, last: i64) -> String {
    if first == last {
        format!("{word} {first} is missing: it was removed, and not by retention")
    } else {
        format!("{word}s {first} to {last} are missing: they were removed, and not by retention")
    }
}
