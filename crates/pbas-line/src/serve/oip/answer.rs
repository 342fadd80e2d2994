//! Verdicts -> output tensors, in JSON or in binary.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::wire::{InferRequest, LENGTH_HEADER};
use crate::serve::refusal::Refusal;
use crate::serve::work::Answer;

/// An output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The score of the picture.
    ImageScore,
    /// `normal` or `anomalous`.
    Verdict,
    /// Bound on the probability that a good picture scores as high.
    PValue,
    /// What the score is held against.
    Threshold,
    /// The score map, at the model's size; only when asked for.
    ScoreMap,
}

/// An output that is wanted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub output: Output,
    /// Behind the JSON instead of in it.
    pub binary: bool,
}

/// Verdicts of a request's pictures, in order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct InferResponse {
    /// The model.
    model_name: String,
    /// Its version.
    model_version: String,
    /// The request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// One tensor an output.
    outputs: Vec<OutputTensor>,
}

/// An output tensor.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct OutputTensor {
    /// Its name.
    name: String,
    /// Its datatype.
    datatype: String,
    /// Its shape.
    shape: Vec<usize>,
    /// Where its data follow in binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    /// Its data, flat.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    data: Option<Flat>,
}

/// How many bytes of an output follow in binary.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BinarySize {
    /// Bytes.
    binary_data_size: usize,
}

/// Data of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Flat {
    Texts(Vec<&'static str>),
    Doubles(Vec<f64>),
    Floats(Vec<f32>),
}

impl Output {
    /// All outputs.
    pub const ALL: [Self; 5] =
        [Self::ImageScore, Self::Verdict, Self::PValue, Self::Threshold, Self::ScoreMap];

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImageScore => "image_score",
            Self::Verdict => "verdict",
            Self::PValue => "p_value",
            Self::Threshold => "threshold",
            Self::ScoreMap => "score_map",
        }
    }

    /// Its datatype in the protocol.
    pub fn datatype(self) -> &'static str {
        match self {
            Self::Verdict => "BYTES",
            Self::ScoreMap => "FP32",
            _ => "FP64",
        }
    }

    fn data(self, answers: &[Answer]) -> Flat {
        let doubles = |of: fn(&Answer) -> f64| Flat::Doubles(answers.iter().map(of).collect());
        match self {
            Self::ImageScore => doubles(|a| a.judged.image_score),
            Self::PValue => doubles(|a| a.judged.p_value),
            Self::Threshold => doubles(|a| a.judged.threshold),
            Self::Verdict => Flat::Texts(answers.iter().map(|a| a.judged.verdict.word()).collect()),
            Self::ScoreMap => Flat::Floats(
                answers
                    .iter()
                    .filter_map(|a| a.map.as_ref())
                    .flat_map(|m| m.values.iter().copied())
                    .collect(),
            ),
        }
    }

    fn shape(self, answers: &[Answer]) -> Vec<usize> {
        let map = answers.first().and_then(|a| a.map.as_ref()).filter(|_| self == Self::ScoreMap);
        let mut shape = vec![answers.len()];
        shape.extend(map.into_iter().flat_map(|m| [m.height, m.width]));
        shape
    }
}

impl Flat {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Texts(texts) => texts
                .iter()
                .flat_map(|t| [&(t.len() as u32).to_le_bytes()[..], t.as_bytes()].concat())
                .collect(),
            Self::Doubles(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::Floats(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

/// The outputs that a request wants: those it names, or all but the map.
///
/// # Errors
/// There is no output of a name.
pub fn wanted(request: &InferRequest) -> Result<Vec<Want>, Refusal> {
    let all_binary = request.parameters.binary_data_output;
    if request.outputs.is_empty() {
        let most = Output::ALL.into_iter().filter(|&o| o != Output::ScoreMap);
        return Ok(most.map(|output| Want { output, binary: all_binary }).collect());
    }
    let mut found: Vec<Want> = Vec::new();
    for output in &request.outputs {
        let names = Output::ALL.map(Output::name).join(", ");
        let Some(known) = Output::ALL.into_iter().find(|o| o.name() == output.name) else {
            return Err(Refusal::request(format!("expected outputs of {names}; found `{}`", output.name)));
        };
        if found.iter().any(|w| w.output == known) {
            return Err(Refusal::request(format!("output `{}` is wanted twice", output.name)));
        }
        found.push(Want { output: known, binary: output.parameters.binary_data.unwrap_or(all_binary) });
    }
    Ok(found)
}

/// The answer with these outputs.
///
/// # Errors
/// None in practice.
pub fn write(
    model: &str,
    version: String,
    id: Option<String>,
    wanted: &[Want],
    answers: &[Answer],
) -> Result<Response, Refusal> {
    let (mut outputs, mut tail) = (Vec::new(), Vec::new());
    for &Want { output, binary } in wanted {
        let data = output.data(answers);
        let (parameters, data) = if binary {
            let bytes = data.bytes();
            tail.extend_from_slice(&bytes);
            (Some(BinarySize { binary_data_size: bytes.len() }), None)
        } else {
            (None, Some(data))
        };
        outputs.push(OutputTensor {
            name: output.name().to_owned(),
            datatype: output.datatype().to_owned(),
            shape: output.shape(answers),
            parameters,
            data,
        });
    }
    let head = InferResponse { model_name: model.to_owned(), model_version: version, id, outputs };
    let mut body = serde_json::to_vec(&head)
        .map_err(|e| Refusal::internal(format!("the answer cannot be written: {e}")))?;
    if wanted.iter().all(|w| !w.binary) {
        return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    let length = HeaderValue::from(body.len());
    body.extend_from_slice(&tail);
    let mut response =
        ([(header::CONTENT_TYPE, "application/octet-stream")], Body::from(body)).into_response();
    response.headers_mut().insert(LENGTH_HEADER, length);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(rest: &str) -> InferRequest {
        serde_json::from_str(&format!(r#"{{"inputs":[]{rest}}}"#)).unwrap()
    }

    #[test]
    fn outputs_that_are_wanted() {
        let names = |rest: &str| -> Vec<(&str, bool)> {
            wanted(&request(rest)).unwrap().iter().map(|w| (w.output.name(), w.binary)).collect()
        };
        let usual = ["image_score", "verdict", "p_value", "threshold"];
        assert_eq!(names(""), usual.map(|n| (n, false)));
        assert_eq!(names(r#","parameters":{"binary_data_output":true}"#), usual.map(|n| (n, true)));
        let some =
            r#","outputs":[{"name":"score_map","parameters":{"binary_data":true}},{"name":"verdict"}]"#;
        assert_eq!(names(some), [("score_map", true), ("verdict", false)]);
        for (bad, said) in [
            (r#","outputs":[{"name":"x"}]"#, "found `x`"),
            (r#","outputs":[{"name":"verdict"},{"name":"verdict"}]"#, "twice"),
        ] {
            assert!(wanted(&request(bad)).unwrap_err().message.contains(said));
        }
    }

    #[test]
    fn binary_data_are_as_the_protocol_has_them() {
        assert_eq!(Flat::Texts(vec!["ab", ""]).bytes(), [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]);
        assert_eq!(Flat::Floats(vec![1.0]).bytes(), [0, 0, 0x80, 0x3f]);
        assert_eq!(Flat::Doubles(vec![1.0]).bytes(), [0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    }
}
