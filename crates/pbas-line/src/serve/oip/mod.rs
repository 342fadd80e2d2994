//! The Open Inference Protocol, version 2, over HTTP: JSON tensors, and the binary extension (`Inference-Header-Content-Length`).
//!
//! bytes -> [`wire`] (JSON head, tensors that follow it) -> [`tensor`] (tensors -> pictures) -> queue -> [`answer`] (verdicts -> tensors).

mod answer;
mod data;
mod tensor;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as With};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};

use super::http::Note;
use super::predict::{PART, named};
use super::refusal::Refusal;
use super::routes::{Received, aside, receive};
use super::work::{Answer, Job, Wanted};
use super::{State, openapi};
use crate::judge::Judge;
use answer::InferResponse;
use wire::InferRequest;

/// Digits of a model's digest that are its version.
const VERSION_DIGITS: usize = 12;
/// Bodies and answers above this size are worked on aside.
const LARGE: usize = 64 << 10;

/// The protocol's routes.
pub fn router() -> Router<State> {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
}

/// What the server is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ServerMetadata {
    /// `pbas`.
    name: String,
    /// Of the program.
    version: String,
    /// Of the protocol.
    extensions: Vec<String>,
}

/// Whether the server lives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Live {
    /// Always.
    live: bool,
}

/// Whether work is taken.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ready {
    /// The model that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether new work is taken.
    ready: bool,
}

/// What a model takes and gives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ModelMetadata {
    /// Its name.
    name: String,
    /// The one in service: the beginning of its digest.
    versions: Vec<String>,
    /// `pbas`.
    platform: String,
    /// Inputs; exactly one tensor `image` is taken.
    inputs: Vec<TensorMetadata>,
    /// Outputs.
    outputs: Vec<TensorMetadata>,
}

/// A tensor by name; -1 stands for any length.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TensorMetadata {
    /// Its name.
    name: String,
    /// `BYTES`, `UINT8`, `FP32` or `FP64`.
    datatype: String,
    /// Its shape.
    shape: Vec<i64>,
    /// Of an input: what is taken as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Alternatives>,
}

/// Other datatypes and shapes that an input may have.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Alternatives {
    /// Datatype and shape of each, one line.
    also: String,
}

/// Which model, and which version of it, if that matters.
#[derive(Debug, Deserialize)]
pub struct Which {
    model: String,
    version: Option<String>,
}

impl Which {
    fn find(which: Result<Path<Self>, PathRejection>, state: &State) -> Result<Arc<Judge>, Refusal> {
        let Path(Self { model, version }) = which.map_err(|e| Refusal::request(e.body_text()))?;
        let judge = state.model(&model)?;
        match version {
            Some(version) if version != version_of(&judge) => Err(Refusal::not_found(format!(
                "model `{model}`: expected version `{}`, found `{version}`",
                version_of(&judge)
            ))),
            _ => Ok(judge),
        }
    }
}

fn version_of(judge: &Judge) -> &str {
    judge.digest.get(..VERSION_DIGITS).unwrap_or(&judge.digest)
}

/// What the server is.
#[utoipa::path(get, path = "/v2", tag = "Open Inference Protocol",
    responses((status = 200, description = "Name, version, extensions", body = ServerMetadata), openapi::Refused))]
pub async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "pbas".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec!["binary_tensor_data".to_owned()],
    })
}

/// Whether the server lives.
#[utoipa::path(get, path = "/v2/health/live", tag = "Open Inference Protocol",
    responses((status = 200, description = "It does", body = Live), openapi::Refused))]
pub async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the server takes work.
#[utoipa::path(get, path = "/v2/health/ready", tag = "Open Inference Protocol",
    responses((status = 200, description = "It does", body = Ready), (status = 503, description = "It does not", body = Ready),
        openapi::Refused))]
pub async fn ready(With(state): With<State>) -> Response {
    readiness(&state, None)
}

/// Whether a model takes work.
#[utoipa::path(get, path = "/v2/models/{model}/ready", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "A model in service")),
    responses((status = 200, description = "It does", body = Ready), (status = 503, description = "It does not", body = Ready),
        openapi::ModelRefused))]
pub async fn model_ready(
    With(state): With<State>,
    which: Result<Path<Which>, PathRejection>,
) -> Result<Response, Refusal> {
    let judge = Which::find(which, &state)?;
    Ok(readiness(&state, Some(judge.name.clone())))
}

fn readiness(state: &State, name: Option<String>) -> Response {
    let ready = state.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { name, ready })).into_response()
}

/// What a model takes and gives.
#[utoipa::path(get, path = "/v2/models/{model}", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "A model in service")),
    responses((status = 200, description = "Inputs and outputs", body = ModelMetadata), openapi::ModelRefused))]
pub async fn metadata(
    With(state): With<State>,
    which: Result<Path<Which>, PathRejection>,
) -> Result<Json<ModelMetadata>, Refusal> {
    let judge = Which::find(which, &state)?;
    let tensor = |name: &str, datatype: &str, shape: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape,
        parameters: None,
    };
    let map = judge.detector().map_size();
    let mut image = tensor(tensor::INPUT, "BYTES", vec![-1]);
    image.parameters = Some(Alternatives { also: tensor::ALSO.to_owned() });
    let outputs = answer::Output::ALL.map(|output| {
        let more = match output {
            answer::Output::ScoreMap => vec![map.height as i64, map.width as i64],
            _ => Vec::new(),
        };
        tensor(output.name(), output.datatype(), [vec![-1], more].concat())
    });
    Ok(Json(ModelMetadata {
        name: judge.name.clone(),
        versions: vec![version_of(&judge).to_owned()],
        platform: "pbas".to_owned(),
        inputs: vec![image],
        outputs: outputs.into(),
    }))
}

/// Judges pictures.
#[utoipa::path(post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "A model in service"),
        ("Inference-Header-Content-Length" = Option<usize>, Header,
            description = "Length of the JSON at the body's beginning, where binary tensors follow it")),
    request_body(content((InferRequest = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, description = "Verdicts; `pbas-part` is the number of the last in the record",
            content((InferResponse = "application/json"), (Vec<u8> = "application/octet-stream")),
            headers(("pbas-part" = i64, description = "Number in the record"),
                ("Inference-Header-Content-Length" = usize, description = "Length of the JSON, where binary tensors follow it"))),
        openapi::JudgingRefused))]
pub async fn infer(
    With(state): With<State>,
    which: Result<Path<Which>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let judge = Which::find(which, &state)?;
    let head = wire::head_length(&headers)?;
    let Received { bytes, held, complete } = receive(&state, &headers, body).await?;
    let limits = state.limits();
    let (batch, pixels) = (limits.batch.min(limits.queue), limits.pixels);
    let large = bytes.len() > LARGE;
    let parse = move || {
        let request = wire::parse(&bytes, head)?;
        let pictures = tensor::pictures(&request, batch, pixels)?;
        let wanted = answer::wanted(&request.head)?;
        Ok::<_, Refusal>((request.head, pictures, wanted))
    };
    let (request, pictures, wanted) = if large { aside(&state, parse).await?? } else { parse()? };

    let most = limits.deadline;
    let asked = request.parameters.timeout.map_or(most, |micros| Duration::from_micros(micros).min(most));
    let count = pictures.len();
    let name = |i: usize| {
        let id = named(request.id.clone());
        if count == 1 { id } else { format!("{id}[{i}]") }
    };
    let jobs = pictures.into_iter().enumerate().map(|(i, picture)| Job {
        judge: Arc::clone(&judge),
        picture,
        name: name(i),
        wanted: Wanted { heatmap: false, map: wanted.iter().any(|w| w.output == answer::Output::ScoreMap) },
        arrived: complete,
        held: held.clone(),
    });
    let outcomes = state.judge(jobs.collect(), complete + asked).await?;
    let mut answers: Vec<Answer> = Vec::with_capacity(count);
    for (i, outcome) in outcomes.into_iter().enumerate() {
        answers.push(outcome.map_err(|e| match count {
            1 => e,
            _ => Refusal { message: format!("picture {i}: {}", e.message), ..e },
        })?);
    }
    let longest = |of: fn(&Answer) -> f64| answers.iter().map(of).fold(0.0, f64::max);
    let note = Note {
        model: judge.name.clone(),
        pictures: count,
        wait_ms: longest(|a| a.waited_ms),
        judge_ms: longest(|a| a.judged.milliseconds),
    };
    let part = answers.last().and_then(|a| a.part);
    let version = version_of(&judge).to_owned();
    let large = answers.iter().any(|a| a.map.is_some());
    let write = move || answer::write(&judge.name, version, request.id, &wanted, &answers);
    let mut response = if large { aside(&state, write).await?? } else { write()? };
    if let Some(part) = part {
        response.headers_mut().insert(PART, part.into());
    }
    Ok((Extension(note), response).into_response())
}
