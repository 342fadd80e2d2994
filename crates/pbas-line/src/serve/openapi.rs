//! The API as an OpenAPI document. It is made of what stands at the routes; shapes that are another crate's are described here.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as With;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi, ToSchema};

use super::refusal::{ErrorBody, Refusal};
use super::{State, oip, predict, routes};
use crate::page;

/// The document.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "pbas",
        description = "A trained model judges pictures of parts. Tokens, where they are in use: `Authorization: Bearer TOKEN`."
    ),
    paths(
        predict::predict,
        routes::models,
        routes::metrics,
        document,
        oip::server,
        oip::live,
        oip::ready,
        oip::metadata,
        oip::model_ready,
        oip::infer
    ),
    components(schemas(ErrorBody, predict::Heatmap))
)]
struct Api;

/// The server's routes and the page's.
fn whole() -> utoipa::openapi::OpenApi {
    let mut document = Api::openapi();
    document.merge(page::openapi());
    document
}

/// This document. Where a path names a model, those in service are listed.
#[utoipa::path(get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "The API", content_type = "application/json", body = Object), Refused))]
pub async fn document(With(state): With<State>) -> Result<Json<Value>, Refusal> {
    let names: Vec<String> = state.registry().all().iter().map(|j| j.name.clone()).collect();
    let mut document = serde_json::to_value(whole())
        .map_err(|e| Refusal::internal(format!("the document cannot be written: {e}")))?;
    let paths = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = paths.filter_map(Value::as_object_mut).flat_map(|path| path.values_mut());
    let parameters =
        operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten();
    for parameter in parameters.filter(|p| p["name"] == "model" && !names.is_empty()) {
        parameter["schema"]["enum"] = Value::from(names.clone());
    }
    Ok(Json(document))
}

/// The verdict of `pbas predict`.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what the library writes")]
pub struct Verdict {
    /// The picture's name.
    path: String,
    /// How rare the picture would be among good ones, as `-log10` of a probability.
    image_score: f64,
    /// Bound on the probability that a good picture scores as high.
    p_value: f64,
    /// What the score is held against.
    threshold: f64,
    /// `normal` or `anomalous`.
    verdict: Word,
    /// Width in pixels.
    width: u32,
    /// Height in pixels.
    height: u32,
    /// Where the map is above the pixel threshold, highest peak first; of an anomalous picture whose map is nowhere above it around the highest point.
    regions: Vec<Region>,
    /// Time of the judgement.
    milliseconds: f64,
}

/// A verdict in a word.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "it describes what the library writes")]
pub enum Word {
    /// The score is at or below the threshold.
    Normal,
    /// The score is above the threshold.
    Anomalous,
}

/// A rectangle around what is wrong, in pixels of the picture.
#[derive(Debug, Serialize, ToSchema)]
#[allow(dead_code, reason = "it describes what the library writes")]
pub struct Region {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    /// Pixels that belong to it.
    area: u32,
    /// The map's highest value.
    peak: f32,
}

/// A form with one picture.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it describes what is read field by field")]
pub struct Upload {
    /// The picture file; the field may have any name.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
}

/// Answers by status.
type Answers = BTreeMap<String, RefOr<Response>>;

/// Refusals by status, and what they mean.
type Refusals = [(&'static str, &'static str)];

const OF_ANY: &Refusals = &[
    ("400", "The request is malformed."),
    ("401", "No known token."),
    ("403", "The token may not do this, or the request comes from a page elsewhere."),
    ("405", "Not this method."),
    ("408", "Slower than the limits allow."),
    ("413", "A body above the limit."),
];
const OF_MODELS: &Refusals = &[("404", "No such model, or no such version of it.")];
/// These stand in place of those above of the same status.
const OF_JUDGING: &Refusals = &[
    ("413", "More bytes, pixels or pictures than the limits allow."),
    ("415", "An encoding of the body or a kind of picture that is not known."),
    ("422", "Not a picture, or a damaged one."),
    ("500", "A fault of the server."),
    ("503", "More work than can be done in time; `Retry-After` says when to ask again."),
];

fn answers(kinds: &[&Refusals]) -> Answers {
    let answer = |(status, description): &(&str, &str)| {
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response = ResponseBuilder::new().description(*description).content("application/json", body);
        ((*status).to_owned(), response.build().into())
    };
    kinds.iter().flat_map(|kind| kind.iter()).map(answer).collect()
}

/// What every request may be refused with.
pub struct Refused;

impl IntoResponses for Refused {
    fn responses() -> Answers {
        answers(&[OF_ANY])
    }
}

/// What a request about a model may be refused with.
pub struct ModelRefused;

impl IntoResponses for ModelRefused {
    fn responses() -> Answers {
        answers(&[OF_ANY, OF_MODELS])
    }
}

/// What a request for verdicts may be refused with.
pub struct JudgingRefused;

impl IntoResponses for JudgingRefused {
    fn responses() -> Answers {
        answers(&[OF_ANY, OF_MODELS, OF_JUDGING])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbas::score;

    /// Keys of an object.
    fn keys(value: &serde_json::Value) -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn what_the_library_writes_is_what_is_described() {
        let region = score::Region { x: 1, y: 2, width: 3, height: 4, area: 5, peak: 6.0 };
        let judged = pbas::report::verdict::Judged {
            path: "a.png".into(),
            image_score: 1.0,
            p_value: 0.1,
            threshold: 2.0,
            verdict: pbas::detector::Verdict::Anomalous,
            width: 7,
            height: 8,
            regions: vec![region],
            milliseconds: 1.0,
        };
        let written = serde_json::to_value(&judged).unwrap();
        let document = serde_json::to_value(Api::openapi()).unwrap();
        let schema = |name: &str| &document["components"]["schemas"][name];
        let described = |name: &str| {
            let mut all = keys(&schema(name)["properties"]);
            all.sort();
            all
        };
        let sorted = |value| {
            let mut all = keys(value);
            all.sort();
            all
        };
        assert_eq!(described("Verdict"), sorted(&written));
        assert_eq!(described("Region"), sorted(&written["regions"][0]));
        assert!(schema("Word")["enum"].as_array().unwrap().contains(&written["verdict"]));
    }
}
