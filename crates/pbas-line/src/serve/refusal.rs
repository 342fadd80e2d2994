//! Why a request gets no verdict: a status, a sentence, and what can be done. Its JSON is `{"error", "kind", "hint"}`, which holds the
//! error object of the Open Inference Protocol.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pbas::error::chain;
use pbas::{Error, ErrorKind};
use serde::Serialize;

/// A request that gets no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the answer.
    pub status: StatusCode,
    /// One word for programs and metrics.
    pub kind: &'static str,
    /// A lower-case sentence.
    pub message: String,
    /// What the sender can do.
    pub hint: Option<String>,
    /// Seconds after which it is worth to ask again.
    pub retry_after: Option<u64>,
}

/// The refusal's kind, in the extensions of its answer: for metrics and the log.
#[derive(Debug, Clone, Copy)]
pub struct Kind(pub &'static str);

/// An error, as JSON.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// One word for programs: `request`, `picture`, `too_large`, `unsupported`, `not_found`, `method`, `slow`, `busy`, `deadline`,
    /// `stopping`, `unauthorized`, `forbidden`, `internal`.
    pub kind: String,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), hint: None, retry_after: None }
    }
    /// The request is not what it should be.
    pub fn request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request", message)
    }
    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }
    /// A limit was exceeded.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
    /// More work than can be done in time; `seconds`: when it is worth to ask again.
    pub fn busy(message: impl Into<String>, seconds: f64) -> Self {
        let seconds = (seconds.ceil() as u64).clamp(1, 60);
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message) }
    }
    /// The picture's turn did not come in time.
    pub fn deadline(seconds: f64) -> Self {
        Self {
            kind: "deadline",
            ..Self::busy("the picture's turn did not come before its deadline", seconds)
        }
    }
    /// The server is about to end.
    pub fn stopping() -> Self {
        Self { kind: "stopping", ..Self::busy("the server is stopping and takes no more work", 1.0) }
    }
    /// A fault of the server.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
    /// Adds what the sender can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<&Error> for Refusal {
    fn from(e: &Error) -> Self {
        let (status, kind) = match e.kind() {
            ErrorKind::Input => (StatusCode::UNPROCESSABLE_ENTITY, "picture"),
            ErrorKind::Caller => (StatusCode::BAD_REQUEST, "request"),
            ErrorKind::Limits => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ErrorKind::Unsupported => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported"),
            ErrorKind::Io | ErrorKind::Interrupted => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self { hint: e.hint().map(str::to_owned), ..Self::new(status, kind, chain(e)) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.message, kind: self.kind.to_owned(), hint: self.hint };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Kind(self.kind));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_fix_it_decides_the_status() {
        let of = |e: Error| Refusal::from(&e).status.as_u16();
        assert_eq!(of(Error::input("x")), 422);
        assert_eq!(of(Error::caller("x")), 400);
        assert_eq!(of(Error::limits("x")), 413);
        assert_eq!(of(Error::unsupported("x")), 415);
        assert_eq!(of(Error::new(ErrorKind::Io, "x")), 500);
        let busy = Refusal::busy("x", 2.1).into_response();
        assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (503, &HeaderValue::from(3)));
        assert_eq!(Refusal::deadline(1e9).retry_after, Some(60));
    }
}
