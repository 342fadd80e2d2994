//! A new threshold from the record: looked at first, then applied, and taken back if need be. What sample is honest is argued in
//! [`crate::renewal`].

use std::sync::PoisonError;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Extension, Query, State};
use jiff::Timestamp;
use pbas::detector::Model;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, may_change};
use super::{App, Role, kept};
use crate::judge::Judge;
use crate::record::{Filter, Part};
use crate::renewal::{Change, Promised, Sample};

/// Most parts that are looked at: what they take in memory stays below 200 MB.
const MOST: u64 = 200_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Period {
    model: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    rate: Option<f64>,
}

/// What would be, and what of it stands in the way.
#[derive(Debug, Serialize)]
pub(super) struct Preview {
    model: String,
    /// Of the model in service; to be given back when this is applied.
    digest: String,
    since: Option<Timestamp>,
    until: Timestamp,
    rate: f64,
    in_service: Promised,
    sample: Sample,
    /// None where the sample is refused.
    change: Option<Change>,
    /// Why it is refused.
    refused: Option<String>,
    /// The file that an undo would bring back.
    undo: Option<String>,
}

/// A preview, and the model that it speaks of.
fn look(app: &App, judge: &Judge, period: &Period) -> Result<(Preview, Option<Model>), Failure> {
    let until = period.until.unwrap_or_else(Timestamp::now);
    if period.since.is_some_and(|since| since >= until) {
        return Err(Failure::bad("the time: expected its begin before its end"));
    }
    let filter = Filter {
        since: period.since,
        until: Some(until),
        model: Some(judge.name.clone()),
        model_digest: Some(judge.digest.clone()),
        ..Filter::default()
    };
    let count = app.hub.record().count(&filter)?;
    if count > MOST {
        return Err(Failure::bad(format!(
            "the time: expected at most {MOST} parts of this model, found {count}"
        ))
        .with_hint("choose a later begin; so many prove any rate that makes sense"));
    }
    let parts: Vec<Part> = app.hub.record().parts(&filter)?;
    let model = judge.detector().model();
    let (calibration, scoring) = (&model.calibration, model.settings.scoring);
    let rate = period.rate.unwrap_or(calibration.false_reject_rate);
    pbas::calibrate::check_rate(rate)?;
    let sample = Sample::of(&parts, &model.provenance.picture_digests);
    let (new, refused) = match sample.renew(calibration, rate, scoring) {
        Ok(new) => (Some(new), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let preview = Preview {
        model: judge.name.clone(),
        digest: judge.digest.clone(),
        since: period.since,
        until,
        rate,
        in_service: Promised::from(calibration),
        change: new.as_ref().map(|new| Change::between(calibration, new, scoring, &parts)),
        sample,
        refused,
        undo: kept::before(judge).and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned())),
    };
    let new = new.map(|calibration| Model { calibration, ..model.clone() });
    Ok((preview, new))
}

/// `GET /v1/calibration`
pub(super) async fn preview(
    State(app): State<App>,
    period: Result<Query<Period>, QueryRejection>,
) -> Result<Json<Preview>, Failure> {
    let period = period?.0;
    let judge = app.judge(period.model.as_deref())?;
    app.blocking(move |app| Ok(Json(look(&app, &judge, &period)?.0))).await
}

/// What was looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Apply {
    model: String,
    since: Option<Timestamp>,
    until: Timestamp,
    rate: f64,
    digest: String,
    fingerprint: String,
}

/// What is in service now.
#[derive(Debug, Serialize)]
pub(super) struct InService {
    model: String,
    digest: String,
    in_service: Promised,
    undo: Option<String>,
}

impl InService {
    fn of(judge: &Judge) -> Self {
        Self {
            model: judge.name.clone(),
            digest: judge.digest.clone(),
            in_service: Promised::from(&judge.detector().model().calibration),
            undo: kept::before(judge).and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned())),
        }
    }
}

fn changed(digest: &str) -> Failure {
    Failure::conflict(format!("the model: expected {digest:.8} in service, found another"))
        .with_hint("look at it once more before you change it")
}

/// `POST /v1/calibration`: applies what was looked at, or nothing.
pub(super) async fn apply(
    State(app): State<App>,
    role: Option<Extension<Role>>,
    apply: Result<Json<Apply>, JsonRejection>,
) -> Result<Json<InService>, Failure> {
    may_change(role.map(|r| r.0))?;
    let apply = apply?.0;
    app.blocking(move |app| {
        let _one = app.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let judge = app.judge(Some(&apply.model))?;
        if judge.digest != apply.digest {
            return Err(changed(&apply.digest));
        }
        let (since, until, rate) = (apply.since, Some(apply.until), Some(apply.rate));
        let (preview, new) = look(&app, &judge, &Period { model: None, since, until, rate })?;
        if preview.sample.fingerprint != apply.fingerprint {
            return Err(Failure::conflict(
                "the parts of the time or their reviews have changed since you looked",
            )
            .with_hint("look at what would change once more"));
        }
        let Some(new) = new else {
            return Err(Failure::conflict(preview.refused.unwrap_or_default()));
        };
        let new = kept::replace(&judge, &new)?;
        put(&app, &judge, new)
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Undo {
    model: String,
    digest: String,
}

/// `POST /v1/calibration/undo`: brings back the model that the one in service replaced.
pub(super) async fn undo(
    State(app): State<App>,
    role: Option<Extension<Role>>,
    undo: Result<Json<Undo>, JsonRejection>,
) -> Result<Json<InService>, Failure> {
    may_change(role.map(|r| r.0))?;
    let undo = undo?.0;
    app.blocking(move |app| {
        let _one = app.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let judge = app.judge(Some(&undo.model))?;
        if judge.digest != undo.digest {
            return Err(changed(&undo.digest));
        }
        let new = kept::undo(&judge)?;
        put(&app, &judge, new)
    })
    .await
}

/// Puts a loaded model into service.
fn put(app: &App, old: &Judge, new: Judge) -> Result<Json<InService>, Failure> {
    let told = InService::of(&new);
    tracing::info!(
        model = old.name,
        from = old.digest,
        to = new.digest,
        "the threshold was changed on the page"
    );
    app.models.replace(&old.name, new).map_err(|e| {
        e.context(format!(
            "the file of model `{}` was changed, but it could not be put into service",
            old.name
        ))
    })?;
    Ok(Json(told))
}
