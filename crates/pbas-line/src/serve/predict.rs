//! The simple way: a picture in, the JSON object of `pbas predict` out, or a heatmap.

use axum::body::{Body, Bytes};
use axum::extract::multipart::MultipartError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Query, Request, State as With};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use super::http::Note;
use super::refusal::Refusal;
use super::routes::{Received, receive};
use super::work::{Job, Picture, Wanted};
use super::{Answer, State, openapi};

/// Header with the part's number in the record.
pub const PART: HeaderName = HeaderName::from_static("pbas-part");
/// Header with the verdict, where the answer's body is a picture.
const VERDICT: HeaderName = HeaderName::from_static("pbas-verdict");
/// Header with the image score, likewise.
const SCORE: HeaderName = HeaderName::from_static("pbas-image-score");
/// The longest name of a picture, in characters; longer ones are cut.
const LONGEST_NAME: usize = 255;
/// Name of a picture that came without one.
const UNNAMED: &str = "unnamed";

/// What else is asked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Answer with picture and map side by side, as PNG.
    heatmap: Option<Heatmap>,
    /// The picture's name, for the answer and the record.
    name: Option<String>,
}

/// How a heatmap is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Heatmap {
    /// As a PNG file.
    Png,
}

/// Judges a picture.
#[utoipa::path(post, path = "/v1/predict/{model}", tag = "predict",
    params(("model" = String, Path, description = "A model in service"), Asked),
    request_body(description = "A picture file (PNG, JPEG, BMP, TIFF, WebP), as it is or as the only file of a form",
        content((Vec<u8> = "application/octet-stream"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"),
            (openapi::Upload = "multipart/form-data"))),
    responses(
        (status = 200, description = "The verdict; `pbas-part` is its number in the record",
            content((openapi::Verdict = "application/json"), (Vec<u8> = "image/png")),
            headers(("pbas-part" = i64, description = "Number in the record"))),
        openapi::JudgingRefused))]
pub async fn predict(
    With(state): With<State>,
    model: Result<Path<String>, PathRejection>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let Path(model) = model.map_err(|e| Refusal::request(e.body_text()))?;
    let Query(asked) = asked.map_err(|e| Refusal::request(e.body_text()))?;
    let judge = state.model(&model)?;
    let Received { bytes, held, complete } = receive(&state, &headers, body).await?;
    let (bytes, given) = match is_form(&headers) {
        true => from_form(&headers, bytes).await?,
        false => (bytes, None),
    };
    let name = named(asked.name.or(given));
    let wanted = Wanted { heatmap: asked.heatmap == Some(Heatmap::Png), map: false };
    let job = Job { judge, picture: Picture::Encoded(bytes), name, wanted, arrived: complete, held };
    let mut answers = state.judge(vec![job], complete + state.limits().deadline).await?;
    let answer = answers.pop().unwrap_or_else(|| Err(Refusal::internal("a picture has no verdict")))?;
    Ok(respond(&model, answer))
}

fn respond(model: &str, answer: Answer) -> Response {
    let Answer { judged, heatmap, part, waited_ms, .. } = answer;
    let note =
        Note { model: model.to_owned(), pictures: 1, wait_ms: waited_ms, judge_ms: judged.milliseconds };
    let score = HeaderValue::from_str(&judged.image_score.to_string());
    let verdict = HeaderValue::from_static(judged.verdict.word());
    let mut response = match heatmap {
        Some(png) => ([(header::CONTENT_TYPE, "image/png")], png).into_response(),
        None => Json(judged).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(VERDICT, verdict);
    if let Ok(score) = score {
        headers.insert(SCORE, score);
    }
    if let Some(part) = part {
        headers.insert(PART, HeaderValue::from(part));
    }
    (Extension(note), response).into_response()
}

/// A name of bounded length.
pub fn named(name: Option<String>) -> String {
    match name {
        Some(name) if !name.is_empty() => name.chars().take(LONGEST_NAME).collect(),
        _ => UNNAMED.to_owned(),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.get(..19).is_some_and(|k| k.eq_ignore_ascii_case(b"multipart/form-data"))
}

/// The only file of a form, and its name.
async fn from_form(headers: &HeaderMap, bytes: Bytes) -> Result<(Bytes, Option<String>), Refusal> {
    let unfit = |e: MultipartError| Refusal::request(format!("the form cannot be read: {}", e.body_text()));
    let mut request = Request::new(Body::from(bytes));
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    // It was received within the limits already.
    DefaultBodyLimit::disable().apply(&mut request);
    let form = Multipart::from_request(request, &()).await;
    let mut form =
        form.map_err(|e| Refusal::request(format!("the form cannot be read: {}", e.body_text())))?;
    let mut found = None;
    while let Some(field) = form.next_field().await.map_err(unfit)? {
        let name = field.file_name().map(str::to_owned);
        let bytes = field.bytes().await.map_err(unfit)?;
        if found.replace((bytes, name)).is_some() {
            return Err(Refusal::request("the form has more than one field: expected one picture a request"));
        }
    }
    found.ok_or_else(|| Refusal::request("the form has no field: expected one with a picture"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_known_by_their_type() {
        let with =
            |kind: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        assert!(is_form(&with("multipart/form-data; boundary=x")) && is_form(&with("Multipart/Form-Data")));
        assert!(
            !is_form(&with("multipart/mixed")) && !is_form(&with("image/png")) && !is_form(&HeaderMap::new())
        );
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(named(None), UNNAMED);
        assert_eq!(named(Some(String::new())), UNNAMED);
        assert_eq!(named(Some("ä".repeat(300))).chars().count(), LONGEST_NAME);
    }
}
