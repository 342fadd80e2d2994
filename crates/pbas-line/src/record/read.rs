//! Reading parts: a [`Filter`] becomes SQL, rows become [`Part`]s.

use jiff::Timestamp;
use pbas::detector::Verdict;
use pbas::score::Region;
use pbas::{Error, Result};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params_from_iter};

use super::{Filter, Part, Record, Review, Said};

/// The columns of a part, in the order in which [`part_of`] takes them, and its last review.
const COLUMNS: &str = "id, time_us, name, size, sha256, model, model_digest, error, verdict, image_score, threshold, p_value, value, peak, \
     width, height, regions, decode_ms, judge_ms, (SELECT nullif(review, 'withdrawn') FROM reviews WHERE part = parts.id ORDER BY reviews.id DESC LIMIT 1)";

/// A model that has judged parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOf {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub digest: String,
    /// How many parts.
    pub parts: u64,
}

impl Record {
    /// The part of this number, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or a row is damaged.
    pub fn part(&self, id: i64) -> Result<Option<Part>> {
        let connection = self.reader();
        let sql = format!("SELECT {COLUMNS} FROM parts WHERE id = ?");
        let mut statement = connection.prepare_cached(&sql).map_err(|e| self.fault(e))?;
        let found = statement.query_row([id], |r| Ok(part_of(r))).optional().map_err(|e| self.fault(e))?;
        found.transpose().map_err(|e| self.damaged(&e))
    }

    /// The parts that a filter lets through, in order.
    ///
    /// # Errors
    /// The file cannot be read, or a row is damaged.
    pub fn parts(&self, filter: &Filter) -> Result<Vec<Part>> {
        let mut found = Vec::new();
        self.for_each(filter, |part| {
            found.push(part);
            Ok(true)
        })?;
        Ok(found)
    }

    /// Hands on the parts that a filter lets through, one at a time, until `each` says no. Holds the reading connection meanwhile.
    ///
    /// # Errors
    /// The file cannot be read, a row is damaged, or the first error of `each`.
    pub fn for_each(&self, filter: &Filter, mut each: impl FnMut(Part) -> Result<bool>) -> Result<()> {
        let (condition, values) = condition(filter);
        let order = if filter.latest_first { "DESC" } else { "ASC" };
        let limit = filter.limit.map(|n| format!(" LIMIT {n}")).unwrap_or_default();
        let sql = format!("SELECT {COLUMNS} FROM parts WHERE {condition} ORDER BY id {order}{limit}");
        let connection = self.reader();
        let mut statement = connection.prepare_cached(&sql).map_err(|e| self.fault(e))?;
        let mut rows = statement.query(params_from_iter(values)).map_err(|e| self.fault(e))?;
        while let Some(row) = rows.next().map_err(|e| self.fault(e))? {
            if !each(part_of(row).map_err(|e| self.damaged(&e))?)? {
                break;
            }
        }
        Ok(())
    }

    /// How many parts a filter lets through; its limit counts for nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn count(&self, filter: &Filter) -> Result<u64> {
        let (condition, values) = condition(filter);
        let sql = format!("SELECT count(*) FROM parts WHERE {condition}");
        let connection = self.reader();
        let mut statement = connection.prepare_cached(&sql).map_err(|e| self.fault(e))?;
        let count: i64 =
            statement.query_row(params_from_iter(values), |r| r.get(0)).map_err(|e| self.fault(e))?;
        Ok(count.unsigned_abs())
    }

    /// The models that have judged parts, in the order of their first ones.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn models(&self) -> Result<Vec<ModelOf>> {
        let connection = self.reader();
        let found = || -> rusqlite::Result<Vec<ModelOf>> {
            let sql = "SELECT model, model_digest, count(*) FROM parts GROUP BY model_digest, model ORDER BY min(id)";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |r| {
                Ok(ModelOf { name: r.get(0)?, digest: r.get(1)?, parts: r.get::<_, i64>(2)?.unsigned_abs() })
            })?;
            rows.collect()
        };
        found().map_err(|e| self.fault(e))
    }

    /// The digest of a part's row, which stands for everything before it too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digest(&self, id: i64) -> Result<Option<String>> {
        let connection = self.reader();
        let mut statement =
            connection.prepare_cached("SELECT digest FROM parts WHERE id = ?").map_err(|e| self.fault(e))?;
        statement.query_row([id], |r| r.get(0)).optional().map_err(|e| self.fault(e))
    }

    /// The small JPEG of a part, where it is kept.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn thumbnail(&self, id: i64) -> Result<Option<Vec<u8>>> {
        self.picture("thumbnail", id)
    }

    /// The grey PNG of a part's map, where it is kept.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn map(&self, id: i64) -> Result<Option<Vec<u8>>> {
        self.picture("map", id)
    }

    fn picture(&self, column: &str, id: i64) -> Result<Option<Vec<u8>>> {
        let connection = self.reader();
        let sql = format!("SELECT {column} FROM pictures WHERE part = ?");
        let mut statement = connection.prepare_cached(&sql).map_err(|e| self.fault(e))?;
        let found: Option<Option<Vec<u8>>> =
            statement.query_row([id], |r| r.get(0)).optional().map_err(|e| self.fault(e))?;
        Ok(found.flatten())
    }

    fn damaged(&self, reason: &str) -> Error {
        let shown = self.path().map_or_else(|| ":memory:".into(), |p| p.display().to_string());
        Error::input(format!("record `{shown}`: {reason}"))
            .with_hint("a row was edited or the file is damaged; `pbas history verify` says which")
    }
}

/// The condition of a filter and the values of its marks.
pub(super) fn condition(filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = vec!["TRUE".to_owned()];
    let mut values = Vec::new();
    let mut add = |condition: &str, value: Value| {
        conditions.push(condition.to_owned());
        values.push(value);
    };
    if let Some(time) = filter.since {
        add("time_us >= ?", Value::Integer(time.as_microsecond()));
    }
    if let Some(time) = filter.until {
        add("time_us < ?", Value::Integer(time.as_microsecond()));
    }
    if let Some(verdict) = filter.verdict {
        // Spelled out, so that the index of rejected parts serves.
        conditions.push(format!("verdict = '{}'", verdict.word()));
    }
    let mut add = |condition: &str, value: Value| {
        conditions.push(condition.to_owned());
        values.push(value);
    };
    if let Some(model) = &filter.model {
        add("model = ?", Value::Text(model.clone()));
    }
    if let Some(digest) = &filter.model_digest {
        add("model_digest = ?", Value::Text(digest.clone()));
    }
    if let Some(id) = filter.before {
        add("id < ?", Value::Integer(id));
    }
    if let Some(id) = filter.after {
        add("id > ?", Value::Integer(id));
    }
    if filter.failed {
        conditions.push("error IS NOT NULL".to_owned());
    }
    const LAST: &str = "(SELECT nullif(review, 'withdrawn') FROM reviews WHERE part = parts.id ORDER BY reviews.id DESC LIMIT 1)";
    match filter.review {
        None => {}
        Some(None) => conditions.push(format!("{LAST} IS NULL")),
        Some(Some(review)) => conditions.push(format!("{LAST} = '{}'", review.word())),
    }
    (conditions.join(" AND "), values)
}

fn part_of(row: &Row) -> Result<Part, String> {
    let damaged = |id: i64, what: &str| format!("part {id}: {what}");
    let id: i64 = row.get(0).map_err(|e| format!("a part's number: {e}"))?;
    let read = |e: rusqlite::Error| damaged(id, &e.to_string());
    macro_rules! get {
        ($at:expr) => {
            row.get($at).map_err(read)?
        };
    }
    let error: Option<String> = get!(7);
    let said = if error.is_some() {
        None
    } else {
        let verdict: String = get!(8);
        let regions: String = get!(16);
        let regions: Vec<Region> =
            serde_json::from_str(&regions).map_err(|e| damaged(id, &format!("regions: {e}")))?;
        Some(Said {
            verdict: verdict_of(&verdict)
                .ok_or_else(|| damaged(id, &format!("expected a verdict, found `{verdict}`")))?,
            image_score: get!(9),
            threshold: get!(10),
            p_value: get!(11),
            value: get!(12),
            peak: get!(13),
            width: get!(14),
            height: get!(15),
            regions,
            decode_ms: get!(17),
            judge_ms: get!(18),
            thumbnail: None,
            map: None,
        })
    };
    let review: Option<String> = get!(19);
    let review = review
        .map(|r| Review::of(&r).ok_or_else(|| damaged(id, &format!("expected a review, found `{r}`"))))
        .transpose()?;
    let time: i64 = get!(1);
    let size: i64 = get!(3);
    Ok(Part {
        id,
        time: Timestamp::from_microsecond(time).map_err(|e| damaged(id, &e.to_string()))?,
        name: get!(2),
        size: size.unsigned_abs(),
        sha256: get!(4),
        model: get!(5),
        model_digest: get!(6),
        said,
        error,
        review,
    })
}

fn verdict_of(word: &str) -> Option<Verdict> {
    [Verdict::Normal, Verdict::Anomalous].into_iter().find(|v| v.word() == word)
}

impl Review {
    /// The word that stands for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Defect => "defect",
            Self::Skipped => "skipped",
        }
    }

    /// By its word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Good, Self::Defect, Self::Skipped].into_iter().find(|r| r.word() == word)
    }
}
