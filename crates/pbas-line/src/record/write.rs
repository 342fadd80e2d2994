//! Adding parts and reviews.

use jiff::Timestamp;
use pbas::{Error, Result};
use rusqlite::types::Value;
use rusqlite::{Transaction, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::chain::{PARTS, REVIEWS};
use super::{NewPart, Part, Record, Review, Said};
use crate::judge::hex;

/// A clock that goes back by less is not spoken of: parts that are judged side by side are not recorded in the order of their times.
const BACK: i64 = 5_000_000;
/// Stands in the place of a review where those before it are withdrawn.
pub(super) const WITHDRAWN: &str = "withdrawn";
/// A record in memory keeps so many parts, the latest.
const KEPT_PARTS: i64 = 5_000;
/// And the pictures of so many.
const KEPT_PICTURES: i64 = 256;

impl Record {
    /// Adds a part; it is on the disk when this returns. Its time is kept to the microsecond.
    ///
    /// # Errors
    /// The disk is full, the file is locked or cannot be written, or a figure is not a number.
    pub fn add(&self, part: &NewPart) -> Result<Part> {
        let id = self.write(|transaction| {
            let id = insert(transaction, part)?;
            if self.path().is_none() {
                forget(transaction, id)?;
            }
            Ok(id)
        })?;
        Ok(recorded(id, part))
    }

    /// Adds a review, or withdraws (`None`) those that there are; the part's last one counts.
    ///
    /// # Errors
    /// There is no such part, or the file cannot be written.
    pub fn review(&self, id: i64, review: impl Into<Option<Review>>) -> Result<Part> {
        self.review_at(id, review.into(), Timestamp::now())
    }

    /// As [`Record::review`], at a time.
    ///
    /// # Errors
    /// As [`Record::review`].
    pub fn review_at(&self, id: i64, review: Option<Review>, time: Timestamp) -> Result<Part> {
        let missing = || Error::caller(format!("part {id}: expected one in the record, found none"));
        let there = self.write(|transaction| {
            let there: bool =
                transaction
                    .query_row("SELECT EXISTS (SELECT 1 FROM parts WHERE id = ?)", [id], |r| r.get(0))?;
            if there {
                let fields = vec![
                    Value::Integer(id),
                    Value::Integer(time.as_microsecond()),
                    Value::Text(review.map_or(WITHDRAWN, Review::word).to_owned()),
                ];
                REVIEWS.append(transaction, fields)?;
            }
            Ok(there)
        })?;
        if !there {
            return Err(missing());
        }
        self.part(id)?.ok_or_else(missing)
    }

    /// Does `work` in a transaction that holds the file for writing from its beginning.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Transaction) -> rusqlite::Result<T>) -> Result<T> {
        let mut connection = self.writer();
        let done = || -> rusqlite::Result<T> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        done().map_err(|e| self.fault(e))
    }
}

/// Keeps a record in memory small.
fn forget(transaction: &Transaction, id: i64) -> rusqlite::Result<()> {
    for (sql, kept) in [
        ("DELETE FROM pictures WHERE part <= ?", KEPT_PICTURES),
        ("DELETE FROM reviews WHERE part <= ?", KEPT_PARTS),
        ("DELETE FROM parts WHERE id <= ?", KEPT_PARTS),
    ] {
        transaction.prepare_cached(sql)?.execute([id - kept])?;
    }
    Ok(())
}

/// Inserts a part and its pictures; the number that it got.
pub(super) fn insert(transaction: &Transaction, part: &NewPart) -> rusqlite::Result<i64> {
    let text = |s: &str| Value::Text(s.to_owned());
    let said = part.outcome.as_ref().ok();
    let real = |f: fn(&Said) -> f64| said.map_or(Value::Null, |s| Value::Real(f(s)));
    let whole = |f: fn(&Said) -> u32| said.map_or(Value::Null, |s| Value::Integer(f(s).into()));
    let sum = |bytes: Option<&Vec<u8>>| bytes.map_or(Value::Null, |b| Value::Text(hex(&Sha256::digest(b))));
    let regions = said
        .map(|s| serde_json::to_string(&s.regions))
        .transpose()
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    let time = part.time.as_microsecond();
    let last: Option<i64> = transaction
        .prepare_cached("SELECT time_us FROM parts ORDER BY id DESC LIMIT 1")?
        .query_row([], |r| r.get(0))
        .ok();
    if let Some(back) = last.map(|last| last - time).filter(|back| *back > BACK) {
        tracing::warn!(
            seconds = back / 1_000_000,
            "the clock was set back: the record keeps the order of its numbers"
        );
    }
    let fields = vec![
        Value::Integer(time),
        text(&part.name),
        Value::Integer(i64::try_from(part.size).unwrap_or(i64::MAX)),
        text(&part.sha256),
        text(&part.model),
        text(&part.model_digest),
        part.outcome.as_ref().err().map_or(Value::Null, |e| text(e)),
        said.map_or(Value::Null, |s| text(s.verdict.word())),
        real(|s| s.image_score),
        real(|s| s.threshold),
        real(|s| s.p_value),
        real(|s| s.value),
        real(|s| s.peak),
        whole(|s| s.width),
        whole(|s| s.height),
        regions.map_or(Value::Null, Value::Text),
        real(|s| s.decode_ms),
        real(|s| s.judge_ms),
        sum(said.and_then(|s| s.thumbnail.as_ref())),
        sum(said.and_then(|s| s.map.as_ref())),
    ];
    // SQLite keeps no NaN: it would come back as nothing, and the digest would not fit.
    if fields.iter().any(|f| matches!(f, Value::Real(x) if x.is_nan())) {
        return Err(rusqlite::Error::ToSqlConversionFailure("a figure of the part is not a number".into()));
    }
    let id = PARTS.append(transaction, fields)?;
    if let Some(Said { thumbnail, map, .. }) = said.filter(|s| s.thumbnail.is_some() || s.map.is_some()) {
        let sql = "INSERT INTO pictures (part, thumbnail, map) VALUES (?, ?, ?)";
        transaction.prepare_cached(sql)?.execute((id, thumbnail, map))?;
    }
    Ok(id)
}

/// What was recorded, as it will be read.
pub(super) fn recorded(id: i64, part: &NewPart) -> Part {
    let said = part.outcome.as_ref().ok().map(|s| Said {
        thumbnail: None,
        map: None,
        regions: s.regions.clone(),
        ..*s
    });
    Part {
        id,
        time: Timestamp::from_microsecond(part.time.as_microsecond()).unwrap_or(part.time),
        name: part.name.clone(),
        size: part.size,
        sha256: part.sha256.clone(),
        model: part.model.clone(),
        model_digest: part.model_digest.clone(),
        said,
        error: part.outcome.as_ref().err().cloned(),
        review: None,
    }
}
