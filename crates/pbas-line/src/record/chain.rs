//! Rows chained by digests.
//!
//! The digest of a row is SHA-256 over the digest of the row before (32 bytes, zeros before the first) and the row's fields in the order
//! of their columns, the digest itself left out. A field is a byte for its kind (0 null, 1 whole number, 2 real, 3 text, 4 bytes); then eight
//! bytes with the number (two's complement or IEEE 754) or the length in bytes, highest first; then the bytes of a text. Nothing of a
//! null follows. A row's number is its first field, so rows cannot change places.

use rusqlite::types::{Value, ValueRef};
use sha2::{Digest, Sha256};

use crate::judge::hex;

/// The digest before the first row.
pub const FIRST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A chain: its table and the columns under the digest, the row's number first.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// The table, which is also the chain's name in `cuts`.
    pub table: &'static str,
    /// Columns in the order in which they are digested.
    pub columns: &'static [&'static str],
}

/// Parts.
pub const PARTS: Chain = Chain {
    table: "parts",
    columns: &[
        "id",
        "time_us",
        "name",
        "size",
        "sha256",
        "model",
        "model_digest",
        "error",
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
        "thumbnail_sha256",
        "map_sha256",
    ],
};
/// Reviews.
pub const REVIEWS: Chain = Chain { table: "reviews", columns: &["id", "part", "time_us", "review"] };
/// What retention removed.
pub const CUTS: Chain = Chain {
    table: "cuts",
    columns: &["id", "time_us", "chain", "first_id", "last_id", "count", "before", "after", "reason"],
};

/// The digest of a row; `before` is that of the row before it.
pub fn digest<'a>(before: &str, fields: impl IntoIterator<Item = ValueRef<'a>>) -> String {
    let mut sum = Sha256::new();
    sum.update(bytes_of(before));
    for field in fields {
        match field {
            ValueRef::Null => sum.update([0]),
            ValueRef::Integer(n) => {
                sum.update([1]);
                sum.update(n.to_be_bytes());
            }
            ValueRef::Real(x) => {
                sum.update([2]);
                sum.update(x.to_bits().to_be_bytes());
            }
            ValueRef::Text(t) => long(&mut sum, 3, t),
            ValueRef::Blob(b) => long(&mut sum, 4, b),
        }
    }
    hex(&sum.finalize())
}

fn long(sum: &mut Sha256, kind: u8, bytes: &[u8]) {
    sum.update([kind]);
    sum.update((bytes.len() as u64).to_be_bytes());
    sum.update(bytes);
}

/// The bytes of a digest; one that is no digest (an edited row) stands for itself, so that it never fits.
fn bytes_of(digest: &str) -> Vec<u8> {
    let pairs = digest
        .as_bytes()
        .chunks(2)
        .map(|p| std::str::from_utf8(p).ok().and_then(|p| u8::from_str_radix(p, 16).ok()));
    pairs.collect::<Option<Vec<u8>>>().filter(|b| b.len() == 32).unwrap_or_else(|| digest.as_bytes().to_vec())
}

impl Chain {
    /// Adds a row to the table of an open transaction; `fields` are those of [`Chain::columns`] without the number, which is returned.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn append(&self, transaction: &rusqlite::Transaction, fields: Vec<Value>) -> rusqlite::Result<i64> {
        let id = self.last_number(transaction)? + 1;
        let before = self.last_digest(transaction)?;
        let mut values = vec![Value::Integer(id)];
        values.extend(fields);
        debug_assert_eq!(values.len(), self.columns.len());
        let digest = digest(&before, values.iter().map(ValueRef::from));
        values.push(Value::Text(digest));
        let marks = vec!["?"; values.len()].join(", ");
        let sql =
            format!("INSERT INTO {} ({}, digest) VALUES ({marks})", self.table, self.columns.join(", "));
        transaction.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values))?;
        Ok(id)
    }

    /// The highest number that was ever given, though its row may have been removed since.
    fn last_number(&self, transaction: &rusqlite::Transaction) -> rusqlite::Result<i64> {
        let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?";
        transaction.prepare_cached(sql)?.query_row([self.table], |r| r.get(0))
    }

    /// What the next row follows: the last row, or what was cut behind it.
    fn last_digest(&self, transaction: &rusqlite::Transaction) -> rusqlite::Result<String> {
        let table = self.table;
        let sql = format!(
            "SELECT digest FROM (SELECT id, digest FROM {table} WHERE id = (SELECT max(id) FROM {table})
             UNION ALL SELECT last_id, after FROM cuts WHERE chain = '{table}' ORDER BY 1 DESC LIMIT 1)"
        );
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        rows.next()?.map_or_else(|| Ok(FIRST.to_owned()), |r| r.get(0))
    }
}
