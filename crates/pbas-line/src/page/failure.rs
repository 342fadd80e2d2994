//! What went wrong with a request of the page: told as every refusal of the server is, as JSON with a status that says who can mend it.

use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pbas::Error;

use super::Role;
use crate::serve::Refusal;

/// A request that was refused or failed.
#[derive(Debug)]
pub(super) struct Failure(Refusal);

impl Failure {
    /// The request makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Self(Refusal::request(message))
    }

    /// There is no such thing.
    pub fn missing(message: impl Into<String>) -> Self {
        Self(Refusal::not_found(message))
    }

    /// Something has changed since the one who asks last looked, or is not as it has to be for this.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self(Refusal::new(StatusCode::CONFLICT, "request", message))
    }

    /// Too much to do just now.
    pub fn busy(message: impl Into<String>) -> Self {
        Self(Refusal::busy(message, 1.0))
    }

    /// A fault of this program.
    pub fn broken(message: impl Into<String>) -> Self {
        Self(Refusal::internal(message))
    }

    /// With what can be done about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.with_hint(hint))
    }
}

/// Refuses a change to one who may only look on; who has no role at all may not even be known.
pub(super) fn may_change(role: Option<Role>) -> Result<(), Failure> {
    match role {
        Some(Role::Admin) => Ok(()),
        Some(Role::Read) | None => {
            Err(Failure(Refusal::new(StatusCode::FORBIDDEN, "forbidden", "changes need an admin token"))
                .with_hint(
                    "enter a token of the role `admin` on the page, or send it as `Authorization: Bearer`",
                ))
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self(Refusal::from(&e))
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => {
        $(impl From<$rejection> for Failure {
            fn from(e: $rejection) -> Self {
                Self(Refusal::new(e.status(), "request", e.body_text()))
            }
        })*
    };
}
from_rejection!(BytesRejection, JsonRejection, PathRejection, QueryRejection);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.0.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self.0.message, "a request of the page failed");
        }
        self.0.into_response()
    }
}
