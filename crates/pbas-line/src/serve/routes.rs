//! Which path leads where, and the small answers: health, metrics, models.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State as With;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::metrics::{CONTENT_TYPE, Stage};
use super::refusal::Refusal;
use super::{KIB, State, oip, openapi, predict};
use crate::page::{self, PageState};

/// Bytes for which room is made before they come.
const USUAL: usize = 64 << 10;

/// Everything that is served: verdicts, health, metrics, the API's document, the page.
pub fn router(state: &State) -> Router {
    let page =
        page::router(PageState { hub: state.hub().clone(), models: Arc::new(state.registry().clone()) });
    Router::new()
        .route("/v1/predict/{model}", post(predict::predict))
        .route("/v1/models", get(models))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi::document))
        .merge(oip::router())
        .with_state(state.clone())
        .merge(page)
        .fallback(|| async {
            Refusal::not_found("there is nothing here").with_hint("`/openapi.json` says what there is")
        })
}

/// A model in service, or a file that could not be put into service.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ModelEntry {
    /// Its name; of a refused file, the file's.
    pub name: String,
    /// SHA-256 of the model file in service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Whether it is in service.
    pub in_service: bool,
    /// Why the latest file of this name was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The models.
#[utoipa::path(get, path = "/v1/models", tag = "models",
    responses((status = 200, description = "Models in service, and files that were refused", body = [ModelEntry]),
        openapi::Refused))]
pub async fn models(With(state): With<State>) -> Json<Vec<ModelEntry>> {
    let mut entries: Vec<ModelEntry> = state
        .registry()
        .all()
        .iter()
        .map(|j| ModelEntry {
            name: j.name.clone(),
            digest: Some(j.digest.clone()),
            in_service: true,
            problem: None,
        })
        .collect();
    for (path, problem) in state.problems().all() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match entries.iter_mut().find(|e| e.name == name) {
            Some(entry) => entry.problem = Some(problem),
            None => {
                entries.push(ModelEntry { name, digest: None, in_service: false, problem: Some(problem) })
            }
        }
    }
    Json(entries)
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"),
        openapi::Refused))]
pub async fn metrics(With(state): With<State>) -> Response {
    match state.metrics().text(&state.load(), state.limits().queue, state.is_ready()) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(e) => Refusal::from(&e).into_response(),
    }
}

/// A request's body, and its share of the memory for bodies.
pub struct Received {
    /// The bytes.
    pub bytes: Bytes,
    /// Held as long as the bytes are.
    pub held: Option<Arc<OwnedSemaphorePermit>>,
    /// When the last byte came.
    pub complete: Instant,
}

/// Reads a body that may lead to work; where there is no room for work the body is not kept.
///
/// # Errors
/// No room (503), an encoding that is not known (415), or the body broke off.
pub async fn receive(state: &State, headers: &HeaderMap, body: Body) -> Result<Received, Refusal> {
    if let Some(encoding) =
        headers.get(header::CONTENT_ENCODING).filter(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported",
            format!("content-encoding: expected none, found {encoding:?}"),
        ));
    }
    let start = Instant::now();
    let refused = match state.is_stopping() {
        true => Some(Refusal::stopping()),
        false => state.0.queue.room(1, start + state.limits().deadline).err(),
    };
    // One that asks first (`Expect: 100-continue`) is refused before it sends anything.
    if let Some(refusal) = refused {
        if !headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(refusal);
    }
    let (bytes, held) = read(state, body).await?;
    let complete = Instant::now();
    state.metrics().stage(Stage::Receive, (complete - start).as_secs_f64());
    Ok(Received { bytes, held: held.map(Arc::new), complete })
}

/// Reads a body to its end, so that the connection can go on; what breaks a limit is answered by [`super::http`].
async fn discard(mut body: Body) {
    while let Some(Ok(_)) = frame(&mut body).await {}
}

async fn frame(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await?;
    // Trailers are of no interest.
    Some(frame.map(|f| f.into_data().unwrap_or_default()))
}

async fn read(state: &State, mut body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
    let expected = body.size_hint().lower().min(state.limits().body as u64) as usize;
    let mut held: Option<OwnedSemaphorePermit> = None;
    // Memory is taken as bytes come, whatever length was promised; the promise only saves copies of what is usual for a picture.
    let mut bytes = Vec::with_capacity(expected.min(USUAL));
    while let Some(piece) = frame(&mut body).await {
        let piece = piece.map_err(|e| Refusal::request(format!("the request's body broke off: {e}")))?;
        let have = held.as_ref().map_or(0, |h| h.num_permits() * KIB);
        let need = (bytes.len() + piece.len()).saturating_sub(have).div_ceil(KIB);
        if need > 0 {
            // In steps, so that a large body does not ask for every piece.
            let step = (need.max(64)) as u32;
            match Arc::clone(&state.0.bodies).try_acquire_many_owned(step) {
                Ok(more) => match &mut held {
                    Some(held) => held.merge(more),
                    None => held = Some(more),
                },
                Err(_) => {
                    drop((bytes, held));
                    discard(body).await;
                    return Err(Refusal::busy(
                        "too many requests at once: no memory is left for this one",
                        1.0,
                    ));
                }
            }
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes.into(), held))
}

/// Does work that would keep a thread from talking to clients on one that does not.
///
/// # Errors
/// The work panics.
pub async fn aside<T: Send + 'static>(
    state: &State,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let internal = |_| Refusal::internal("a request could not be worked on");
    let _place = state.0.desks.acquire().await.map_err(|_| Refusal::stopping())?;
    tokio::task::spawn_blocking(work).await.map_err(internal)
}
