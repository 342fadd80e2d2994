//! What went wrong with a request, as JSON: `{"error": ..., "hint": ...}` and the status that says who can mend it.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pbas::{Error, ErrorKind};
use serde_json::json;

use super::Role;

/// A request that was refused or failed.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hint: None }
    }

    /// The request makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Something has changed since the one who asks last looked, or is not as it has to be for this.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// Too much to do just now.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// A fault of this program.
    pub fn broken(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// With what can be done about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Refuses a change to one who may only look on; who has no role at all may not even be known.
pub(super) fn may_change(role: Option<Role>) -> Result<(), Failure> {
    match role {
        Some(Role::Admin) => Ok(()),
        Some(Role::Read) | None => Err(Failure::new(StatusCode::FORBIDDEN, "changes need an admin token")
            .with_hint(
                "enter a token of the role `admin` on the page, or send it as `Authorization: Bearer`",
            )),
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let status = match e.kind() {
            ErrorKind::Input | ErrorKind::Caller | ErrorKind::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Limits => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Io => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, message: pbas::error::chain(&e), hint: e.hint().map(str::to_owned) }
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => {
        $(impl From<$rejection> for Failure {
            fn from(e: $rejection) -> Self {
                Self::new(e.status(), e.body_text())
            }
        })*
    };
}
from_rejection!(BytesRejection, JsonRejection, PathRejection, QueryRejection);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.status.is_server_error() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(error = %self.message, "a request of the page failed");
        }
        let body = match self.hint {
            Some(hint) => json!({ "error": self.message, "hint": hint }),
            None => json!({ "error": self.message }),
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}
