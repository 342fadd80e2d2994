//! A request as it comes: a JSON head, and behind it the binary tensors that the head announces.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName};
use serde::Deserialize;

use super::data::Data;
use crate::serve::refusal::Refusal;

/// Length of the JSON head, where binary tensors follow it.
pub const LENGTH_HEADER: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A request for verdicts. The document's example has a grey picture of 2 x 2 pixels.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({"id": "part 7", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGOMiopiYGBgYmBgYGBgAAAM0gES+mGUZwAAAABJRU5ErkJggg=="
]}]}))]
pub struct InferRequest {
    /// Comes back with the answer, and names the picture in the record.
    pub id: Option<String>,
    /// Of the whole request.
    #[serde(default)]
    pub parameters: RequestParameters,
    /// Exactly one, named `image`.
    pub inputs: Vec<InputTensor>,
    /// The outputs that are wanted; without them all but `score_map`.
    #[serde(default)]
    pub outputs: Vec<WantedOutput>,
}

/// Parameters of a request. Others are passed over.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub struct RequestParameters {
    /// All outputs in binary.
    #[serde(default)]
    pub binary_data_output: bool,
    /// Microseconds until the picture's turn must have come; the server's own deadline is the longest.
    pub timeout: Option<u64>,
}

/// An input tensor.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct InputTensor {
    /// `image`.
    #[schema(example = "image")]
    pub name: String,
    /// `BYTES`: picture files, `[n]`. `UINT8` or `FP32`: pixels, `[h, w, 3]`, `[3, h, w]`, or with `n` before.
    #[schema(example = json!([1]))]
    pub shape: Vec<u64>,
    /// `BYTES`, `UINT8` or `FP32`.
    #[schema(example = "BYTES")]
    pub datatype: String,
    /// Its parameters.
    #[serde(default)]
    pub parameters: TensorParameters,
    /// Numbers, or of `BYTES` texts in base64; nested or flat. Not with `binary_data_size`.
    #[schema(value_type = Option<Vec<Object>>)]
    pub data: Option<Data>,
}

/// Parameters of an input tensor. Others are passed over.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub struct TensorParameters {
    /// Bytes of its data behind the JSON.
    pub binary_data_size: Option<u64>,
}

/// An output that is wanted.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct WantedOutput {
    /// `image_score`, `verdict`, `p_value`, `threshold` or `score_map`.
    pub name: String,
    /// Its parameters.
    #[serde(default)]
    pub parameters: OutputParameters,
}

/// Parameters of an output. Others are passed over.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub struct OutputParameters {
    /// In binary.
    pub binary_data: Option<bool>,
}

/// A request, taken apart.
#[derive(Debug)]
pub struct Parsed {
    /// The JSON.
    pub head: InferRequest,
    /// For each input its binary data, if it has any.
    pub binary: Vec<Option<Bytes>>,
}

/// What the header says of the head's length.
///
/// # Errors
/// It is no number.
pub fn head_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let Some(value) = headers.get(LENGTH_HEADER) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|v| v.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        Refusal::request(format!("{LENGTH_HEADER}: expected a number of bytes, found {value:?}"))
    })
}

/// Takes a body apart.
///
/// # Errors
/// It is not what the head says.
pub fn parse(body: &Bytes, head_length: Option<usize>) -> Result<Parsed, Refusal> {
    let length = head_length.unwrap_or(body.len());
    if length > body.len() {
        return Err(Refusal::request(format!(
            "{LENGTH_HEADER}: expected at most the body's {} bytes, found {length}",
            body.len()
        )));
    }
    let head: InferRequest = serde_json::from_slice(&body[..length])
        .map_err(|e| Refusal::request(format!("the request is not as the protocol has it: {e}")))?;
    let mut at = length;
    let mut binary = Vec::with_capacity(head.inputs.len().min(16));
    for input in &head.inputs {
        let Some(size) = input.parameters.binary_data_size else {
            binary.push(None);
            continue;
        };
        if input.data.is_some() {
            return Err(Refusal::request(format!(
                "input `{}`: expected `data` or `binary_data_size`, found both",
                input.name
            )));
        }
        let end =
            usize::try_from(size).ok().and_then(|size| at.checked_add(size)).filter(|&end| end <= body.len());
        let Some(end) = end else {
            return Err(Refusal::request(format!(
                "input `{}`: expected {size} bytes behind the JSON, found {}",
                input.name,
                body.len() - at
            )));
        };
        binary.push(Some(body.slice(at..end)));
        at = end;
    }
    if at != body.len() {
        return Err(Refusal::request(format!(
            "the body has {} bytes that no input has announced by `binary_data_size`",
            body.len() - at
        )));
    }
    Ok(Parsed { head, binary })
}
