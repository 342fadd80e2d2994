//! Parts of the record: lists, one, its pictures, and what a person says of it.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use pbas::detector::Verdict;
use serde::Deserialize;

use super::failure::{Failure, may_change};
use super::{App, Role};
use crate::record::{Filter, Part, Record, Review};

/// Parts in a list, unless told otherwise.
const USUAL: usize = 60;
/// Most parts in a list.
const MOST: usize = 1000;

/// Which parts a client asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    verdict: Option<Verdict>,
    failed: Option<bool>,
    model: Option<String>,
    review: Option<Reviewed>,
    before: Option<i64>,
    after: Option<i64>,
    limit: Option<usize>,
    order: Option<Order>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reviewed {
    None,
    Good,
    Defect,
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Latest,
    Oldest,
}

impl From<Which> for Filter {
    fn from(which: Which) -> Self {
        let review = which.review.map(|r| match r {
            Reviewed::None => None,
            Reviewed::Good => Some(Review::Good),
            Reviewed::Defect => Some(Review::Defect),
            Reviewed::Skipped => Some(Review::Skipped),
        });
        Self {
            since: which.since,
            until: which.until,
            verdict: which.verdict,
            failed: which.failed.unwrap_or(false),
            model: which.model,
            model_digest: None,
            review,
            before: which.before,
            after: which.after,
            limit: Some(which.limit.unwrap_or(USUAL).min(MOST)),
            latest_first: which.order != Some(Order::Oldest),
        }
    }
}

/// `GET /v1/parts`
pub(super) async fn list(
    State(app): State<App>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<Part>>, Failure> {
    let filter = Filter::from(which?.0);
    app.blocking(move |app| Ok(Json(app.hub.record().parts(&filter)?))).await
}

fn no_part(id: i64) -> Failure {
    Failure::missing(format!("there is no part {id} in the record"))
}

/// `GET /v1/parts/{id}`
pub(super) async fn one(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Part>, Failure> {
    let id = id?.0;
    app.blocking(move |app| app.hub.record().part(id)?.map(Json).ok_or_else(|| no_part(id))).await
}

/// `GET /v1/parts/{id}/thumbnail`
pub(super) async fn thumbnail(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Response, Failure> {
    picture(app, id?.0, "image/jpeg", Record::thumbnail).await
}

/// `GET /v1/parts/{id}/map`
pub(super) async fn map(
    State(app): State<App>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Response, Failure> {
    picture(app, id?.0, "image/png", Record::map).await
}

async fn picture(
    app: App,
    id: i64,
    kind: &'static str,
    read: fn(&Record, i64) -> pbas::Result<Option<Vec<u8>>>,
) -> Result<Response, Failure> {
    let found = app.blocking(move |app| Ok(read(app.hub.record(), id)?)).await?;
    let bytes =
        found.ok_or_else(|| Failure::missing(format!("part {id} has no such picture in the record")))?;
    // A part's pictures never change.
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "private, max-age=86400"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, bytes).into_response())
}

/// What a person says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Says {
    /// Nothing takes back what was said.
    #[serde(deserialize_with = "Option::deserialize")]
    review: Option<Review>,
}

/// `POST /v1/parts/{id}/review`
pub(super) async fn review(
    State(app): State<App>,
    role: Option<Extension<Role>>,
    id: Result<Path<i64>, PathRejection>,
    says: Result<Json<Says>, JsonRejection>,
) -> Result<Json<Part>, Failure> {
    may_change(role.map(|r| r.0))?;
    let (id, says) = (id?.0, says?.0);
    app.blocking(move |app| {
        let part = app.hub.record().part(id)?.ok_or_else(|| no_part(id))?;
        if part.said.is_none() {
            return Err(Failure::conflict(format!(
                "part {id} could not be judged, so there is no verdict to review"
            )));
        }
        Ok(Json(app.hub.record().review(id, says.review)?))
    })
    .await
}
