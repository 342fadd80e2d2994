//! A picture that a person wants judged, on the page. It is not recorded: counts, drift and recalibration are of the line's parts alone.

use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pbas::Threads;
use pbas::detector::Scratch;
use pbas::report::verdict;
use serde::Serialize;

use super::App;
use super::failure::Failure;

/// Largest picture file, in bytes.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// What the model says of it, as `pbas predict` does, with small pictures to show it by.
#[derive(Debug, Serialize)]
pub(super) struct Tried {
    #[serde(flatten)]
    judged: verdict::Judged,
    /// The model.
    model: String,
    /// Time of decoding.
    decode_ms: f64,
    /// JPEG, in Base64.
    thumbnail: String,
    /// Grey PNG of the map, in Base64.
    map: String,
    /// Always `false`.
    recorded: bool,
}

/// `POST /v1/try/{name}` with a picture file's bytes
pub(super) async fn attempt(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Tried>, Failure> {
    let name = name?.0;
    let judge = app.judge(Some(&name))?;
    let Ok(turn) = app.trying.clone().try_acquire_owned() else {
        return Err(Failure::busy("another picture is being tried; the line comes first"));
    };
    let body = body?;
    app.blocking(move |_| {
        let _turn = turn;
        let start = Instant::now();
        let judged = judge.judge(&body, "the picture", &mut Scratch::default(), Threads::One)?;
        let (thumbnail, map) = judge.small_pictures(&judged)?;
        let tried = Tried {
            judged: verdict::Judged::new(std::path::Path::new(""), &judged.prediction),
            model: judge.name.clone(),
            decode_ms: judged.decode_ms,
            thumbnail: STANDARD.encode(thumbnail),
            map: STANDARD.encode(map),
            recorded: false,
        };
        tracing::info!(model = judge.name, ms = start.elapsed().as_secs_f64() * 1e3, "a picture was tried");
        Ok(Json(tried))
    })
    .await
}
