//! Figures of the day, the models in service, and what people said of rejected parts.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use jiff::Timestamp;
use pbas::detector::Verdict;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::{App, Role};
use crate::agreement::{Agreement, Common, Share, in_common};
use crate::record::{Filter, Record, Review};
use crate::renewal::Promised;

/// Most parts of each kind that are compared for what over-kills have in common: the latest.
const COMPARED: usize = 2000;
/// The day, where the client does not say when its day began.
const DAY_S: i64 = 86_400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since: Option<Timestamp>,
}

/// Parts by verdict.
#[derive(Debug, Serialize)]
struct Counts {
    parts: u64,
    normal: u64,
    anomalous: u64,
    failed: u64,
    /// Of the judged.
    reject_rate: Option<Share>,
}

impl Counts {
    fn of(record: &Record, filter: &Filter) -> pbas::Result<Self> {
        let of = |verdict| record.count(&Filter { verdict: Some(verdict), ..filter.clone() });
        let (normal, anomalous) = (of(Verdict::Normal)?, of(Verdict::Anomalous)?);
        let failed = record.count(&Filter { failed: true, ..filter.clone() })?;
        let reject_rate = Share::of(anomalous, normal + anomalous);
        Ok(Self { parts: normal + anomalous + failed, normal, anomalous, failed, reject_rate })
    }
}

#[derive(Debug, Serialize)]
struct InService {
    name: String,
    digest: String,
    promise: Promised,
}

#[derive(Debug, Serialize)]
pub(super) struct Summary {
    since: Timestamp,
    today: Counts,
    /// Rejected parts that nobody has looked at.
    open: u64,
    models: Vec<InService>,
    /// Whether the record ends with this process.
    in_memory: bool,
    /// Whether the one who asks may change anything.
    may_change: bool,
}

/// `GET /v1/summary`
pub(super) async fn summary(
    State(app): State<App>,
    role: Option<Extension<Role>>,
    query: Result<Query<Since>, QueryRejection>,
) -> Result<Json<Summary>, Failure> {
    let since = query?.0.since;
    let may_change = role.is_some_and(|r| r.0 == Role::Admin);
    app.blocking(move |app| {
        let now = Timestamp::now().as_second();
        let since = since.unwrap_or(Timestamp::from_second(now - DAY_S).unwrap_or(Timestamp::UNIX_EPOCH));
        let record = app.hub.record();
        let names = app.models.names();
        let models = names.iter().filter_map(|name| {
            let judge = app.models.judge(name)?;
            let promise = Promised::from(&judge.detector().model().calibration);
            Some(InService { name: name.clone(), digest: judge.digest.clone(), promise })
        });
        Ok(Json(Summary {
            since,
            today: Counts::of(record, &Filter { since: Some(since), ..Filter::default() })?,
            open: record.count(&rejected(Some(None), None))?,
            models: models.collect(),
            in_memory: record.path().is_none(),
            may_change,
        }))
    })
    .await
}

fn rejected(review: Option<Option<Review>>, model: Option<&str>) -> Filter {
    Filter { verdict: Some(Verdict::Anomalous), review, model: model.map(str::to_owned), ..Filter::default() }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    model: Option<String>,
    /// Seconds by which the client's clock is ahead of Greenwich.
    offset: Option<i32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Reviewed {
    agreement: Agreement,
    /// Over-kills among all good parts, as far as people have said: the false-reject rate that was lived through.
    over_kill_rate: Option<Share>,
    /// What over-kills have in common, out of the latest of them.
    common: Vec<Common>,
}

/// `GET /v1/review`
pub(super) async fn review(
    State(app): State<App>,
    query: Result<Query<Of>, QueryRejection>,
) -> Result<Json<Reviewed>, Failure> {
    let query = query?.0;
    app.blocking(move |app| {
        let record = app.hub.record();
        let model = query.model.as_deref();
        let count = |review| record.count(&rejected(Some(review), model));
        let said = |review| count(Some(review));
        let (defects, good) = (said(Review::Defect)?, said(Review::Good)?);
        let agreement = Agreement::of(defects, good, said(Review::Skipped)?, count(None)?);
        let accepted = Filter { verdict: Some(Verdict::Normal), review: None, ..rejected(None, model) };
        let latest =
            |filter: Filter| record.parts(&Filter { limit: Some(COMPARED), latest_first: true, ..filter });
        let common = if good == 0 {
            Vec::new()
        } else {
            in_common(
                &latest(rejected(Some(Some(Review::Good)), model))?,
                &latest(rejected(Some(Some(Review::Defect)), model))?,
                &latest(accepted.clone())?,
                query.offset.unwrap_or(0).into(),
            )
        };
        let over_kill_rate = Share::of(good, good + record.count(&accepted)?);
        Ok(Json(Reviewed { agreement, over_kill_rate, common }))
    })
    .await
}
