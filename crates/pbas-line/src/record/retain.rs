//! Retention: what is old, or more than there is room for, is removed and signed off, so that the chain can still be verified.
//!
//! Never removed is what is *under review*, that is, rejected and not yet found good or a defect by a person (no review, one that was
//! withdrawn, or skipped), and what has an action that is still to be done, such as a message that the broker has not taken yet.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pbas::Result;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::Serialize;

use super::Record;
use super::chain::{CUTS, Chain, FIRST, PARTS, REVIEWS};

/// Between two rounds of it.
pub const EVERY: Duration = Duration::from_secs(60);
/// Rows that are removed in one transaction: a writer waits no longer.
const AT_ONCE: i64 = 1_000;

/// What may be removed of a part.
const FREE: &str = "NOT (verdict IS 'anomalous' AND coalesce((SELECT review FROM reviews WHERE part = parts.id ORDER BY reviews.id DESC \
     LIMIT 1), 'withdrawn') IN ('withdrawn', 'skipped')) \
     AND NOT EXISTS (SELECT 1 FROM actions WHERE part = parts.id AND done_us IS NULL)";

/// How long and how much is kept; nothing is removed without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Parts that are older are removed.
    pub keep: Option<SignedDuration>,
    /// Beyond so many bytes the oldest thumbnails and maps go first, then the oldest parts.
    pub max_size: Option<u64>,
}

/// What retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Retained {
    /// Parts that were removed.
    pub parts: u64,
    /// Parts whose thumbnail and map were removed, while they stay.
    pub pictures: u64,
    /// Bytes in use afterwards.
    pub bytes: u64,
    /// The record is still larger than it may be: what is left is under review or has actions to be done.
    pub over: bool,
}

impl Retained {
    /// That there is more than there may be, and why.
    #[must_use]
    pub fn over_text(&self) -> String {
        format!(
            "the record has {} bytes, more than --max-size: what is left waits for a review or for a broker",
            self.bytes
        )
    }
}

impl Record {
    /// Removes what is beyond the limits at this time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn retain(&self, retention: &Retention, now: Timestamp) -> Result<Retained> {
        let mut done = Retained::default();
        if let Some(keep) = retention.keep {
            // A time before all others where so much is kept that it is before the calendar.
            let limit = now.checked_sub(keep).unwrap_or(Timestamp::MIN).as_microsecond();
            let reason = format!("older than {} s", keep.as_secs());
            let sql =
                format!("SELECT id FROM parts WHERE time_us < ? AND {FREE} ORDER BY id LIMIT {AT_ONCE}");
            loop {
                let removed = self.write(|t| {
                    let ids = numbers(t, &sql, &[Value::Integer(limit)])?;
                    remove(t, &ids, now, &reason)
                })?;
                done.parts += removed;
                if removed == 0 {
                    break;
                }
            }
        }
        if let Some(max) = retention.max_size {
            self.shrink(max, now, &mut done)?;
        }
        let connection = self.writer();
        done.bytes = in_use(&connection).map_err(|e| self.fault(e))?;
        done.over = retention.max_size.is_some_and(|max| done.bytes > max);
        if done.parts + done.pictures > 0 {
            // Pages that are free go back to the system. Where others read, the log is cut back another time.
            let give_back = || -> rusqlite::Result<()> {
                // Each step frees a page.
                let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
                let mut steps = statement.query([])?;
                while steps.next()?.is_some() {}
                connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
            };
            give_back().map_err(|e| self.fault(e))?;
        }
        Ok(done)
    }

    fn shrink(&self, max: u64, now: Timestamp, done: &mut Retained) -> Result<()> {
        let with_pictures = format!(
            "SELECT part FROM pictures JOIN parts ON parts.id = part WHERE {FREE} ORDER BY part LIMIT {}",
            AT_ONCE / 10
        );
        let all = format!("SELECT id FROM parts WHERE {FREE} ORDER BY id LIMIT {AT_ONCE}");
        let reason = format!("more than {max} bytes");
        loop {
            let step = self.write(|t| {
                if in_use(t)? <= max {
                    return Ok((0, 0));
                }
                let pictures = numbers(t, &with_pictures, &[])?;
                for id in &pictures {
                    t.prepare_cached("DELETE FROM pictures WHERE part = ?")?.execute([id])?;
                }
                if !pictures.is_empty() {
                    return Ok((0, pictures.len() as u64));
                }
                Ok((remove(t, &numbers(t, &all, &[])?, now, &reason)?, 0))
            })?;
            if step == (0, 0) {
                return Ok(());
            }
            done.parts += step.0;
            done.pictures += step.1;
        }
    }
}

/// Bytes of the pages that hold something.
fn in_use(connection: &Connection) -> rusqlite::Result<u64> {
    let ask = |what| connection.pragma_query_value(None, what, |r| r.get::<_, i64>(0));
    Ok(((ask("page_count")? - ask("freelist_count")?) * ask("page_size")?).unsigned_abs())
}

fn numbers(transaction: &Transaction, sql: &str, values: &[Value]) -> rusqlite::Result<Vec<i64>> {
    let mut statement = transaction.prepare_cached(sql)?;
    statement.query_map(rusqlite::params_from_iter(values), |r| r.get(0))?.collect()
}

/// Removes parts with all that hangs on them; their numbers ascend. What a watched folder has taken stays known.
fn remove(transaction: &Transaction, ids: &[i64], now: Timestamp, reason: &str) -> rusqlite::Result<u64> {
    let mut reviews = Vec::new();
    for &id in ids {
        let sql = "SELECT id FROM reviews WHERE part = ?";
        reviews.extend(numbers(transaction, sql, &[Value::Integer(id)])?);
        for sql in ["DELETE FROM pictures WHERE part = ?", "DELETE FROM actions WHERE part = ?"] {
            transaction.prepare_cached(sql)?.execute([id])?;
        }
    }
    reviews.sort_unstable();
    cut(transaction, REVIEWS, &reviews, now, reason)?;
    cut(transaction, PARTS, ids, now, reason)?;
    Ok(ids.len() as u64)
}

/// Removes rows of a chain: each run of neighbours leaves a row in `cuts` with the digests on both sides.
fn cut(
    transaction: &Transaction,
    chain: Chain,
    ids: &[i64],
    now: Timestamp,
    reason: &str,
) -> rusqlite::Result<()> {
    let table = chain.table;
    let digest = format!("SELECT digest FROM {table} WHERE id = ?");
    let cut_before = "SELECT after FROM cuts WHERE chain = ? AND last_id = ?";
    for run in ids.chunk_by(|a, b| a + 1 == *b) {
        let (first, last) = (run[0], run[run.len() - 1]);
        let of_row = |id: i64| -> rusqlite::Result<Option<String>> {
            transaction.prepare_cached(&digest)?.query_row([id], |r| r.get(0)).optional()
        };
        let before = match of_row(first - 1)? {
            Some(digest) => digest,
            None => transaction
                .prepare_cached(cut_before)?
                .query_row((table, first - 1), |r| r.get(0))
                .optional()?
                .unwrap_or_else(|| FIRST.to_owned()),
        };
        let after = of_row(last)?.unwrap_or_default();
        let fields = vec![
            Value::Integer(now.as_microsecond()),
            Value::Text(table.to_owned()),
            Value::Integer(first),
            Value::Integer(last),
            Value::Integer(run.len() as i64),
            Value::Text(before),
            Value::Text(after),
            Value::Text(reason.to_owned()),
        ];
        CUTS.append(transaction, fields)?;
        let sql = format!("DELETE FROM {table} WHERE id BETWEEN ? AND ?");
        transaction.prepare_cached(&sql)?.execute((first, last))?;
    }
    Ok(())
}
