//! Drift of the model in service, out of the record: read once, then only what is new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use pbas::Result;
use pbas::detector::Verdict;
use serde::{Deserialize, Serialize};

use super::App;
use super::failure::Failure;
use crate::drift::{ALPHA, Drift, Moved, Reference, SHARES, Seen, Stretch, WatchState};
use crate::judge::Judge;
use crate::record::{Filter, Record};

/// Rows read of the record at once.
const ROWS: usize = 5000;
/// Stretches of time that are shown.
const STRETCHES: usize = 72;
/// Accepted parts among which those that moved most are looked for: the latest.
const RECENT: usize = 500;
/// Of these so many are shown.
const SHOWN: usize = 12;

/// A model in service: its name, and its file's digest. One file under two names is two lines.
type Key = (String, String);

fn key(judge: &Judge) -> Key {
    (judge.name.clone(), judge.digest.clone())
}

/// What has been read of the record, by model.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched(Arc<Mutex<HashMap<Key, Drift>>>);

impl Watched {
    /// Reads what is new of a model, then looks. `in_service` has those that are still of interest.
    fn look<T>(
        &self,
        record: &Record,
        judge: &Judge,
        in_service: &[Key],
        look: impl FnOnce(&Drift) -> T,
    ) -> Result<T> {
        // A reader that panicked left whole parts only: it is gone on from there.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one, _| in_service.contains(one) || *one == key(judge));
        let drift = all.entry(key(judge)).or_insert_with(|| begin(judge));
        let mut after = drift.last();
        loop {
            let filter = Filter {
                model: Some(judge.name.clone()),
                model_digest: Some(judge.digest.clone()),
                after,
                limit: Some(ROWS),
                ..Filter::default()
            };
            let parts = record.parts(&filter)?;
            let rows = parts.len();
            after = parts.last().map_or(after, |p| Some(p.id));
            for part in parts {
                let (id, second) = (part.id, part.time.as_second());
                let seen = match part.said {
                    Some(s) => Seen { id, second, value: s.value, accepted: s.verdict == Verdict::Normal },
                    // It could not be judged; that is no verdict.
                    None => continue,
                };
                drift.see(seen);
            }
            if rows < ROWS {
                return Ok(look(drift));
            }
        }
    }
}

/// The good parts of a renewal that the model accepts: accepted parts are compared with accepted ones.
fn begin(judge: &Judge) -> Drift {
    let model = judge.detector().model();
    let accepted = |value: &f64| !model.calibration.judge_value(*value, model.settings.scoring).rejected;
    let sample = model.calibration.together.as_ref();
    let sample = sample.map(|s| s.ascending().iter().copied().filter(accepted).collect());
    Drift::new(&judge.digest, sample.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    model: Option<String>,
    by: Option<By>,
    /// Seconds by which the client's clock is ahead of Greenwich.
    offset: Option<i32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Hour,
    Day,
}

#[derive(Debug, Serialize)]
pub(super) struct Drifted {
    model: String,
    digest: String,
    /// Bound on the chance of ever a false alarm.
    alpha: f64,
    /// Values of accepted parts.
    values: WatchState,
    /// The share of rejected parts.
    rejects: WatchState,
    /// Which shares `quantiles` have.
    shares: [f64; 4],
    reference: Reference,
    stretches: Vec<Stretch>,
    moved: Vec<Moved>,
    /// Accepted parts among which those are the ones that moved most.
    recent: usize,
}

/// `GET /v1/drift`
pub(super) async fn drift(
    State(app): State<App>,
    query: Result<Query<Of>, QueryRejection>,
) -> Result<Json<Drifted>, Failure> {
    let query = query?.0;
    let judge = app.judge(query.model.as_deref())?;
    app.blocking(move |app| {
        let names = app.models.names();
        let in_service: Vec<Key> = names.iter().filter_map(|n| Some(key(&*app.models.judge(n)?))).collect();
        let seconds = match query.by.unwrap_or(By::Hour) {
            By::Hour => 3600,
            By::Day => 86_400,
        };
        let offset = query.offset.unwrap_or(0).into();
        let drifted = app.watched.look(app.hub.record(), &judge, &in_service, |drift| {
            let [values, rejects] = drift.states();
            Drifted {
                model: judge.name.clone(),
                digest: judge.digest.clone(),
                alpha: ALPHA,
                values,
                rejects,
                shares: SHARES,
                reference: drift.reference(),
                stretches: drift.stretches(seconds, offset, STRETCHES),
                moved: drift.moved(RECENT, SHOWN),
                recent: RECENT,
            }
        })?;
        Ok(Json(drifted))
    })
    .await
}
