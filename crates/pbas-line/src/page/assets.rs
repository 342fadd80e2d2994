//! The page's files, inside the binary, and what a browser is told of them. They hold no data, so they need no token.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::failure::Failure;
use crate::judge::hex;

/// Nothing but what this server holds: no script or style in the page itself, nothing from elsewhere, no frame around it. `blob:` and
/// `data:` are pictures that the page has fetched or that a person gives.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! assets {
    ($($name:literal: $kind:literal),* $(,)?) => {
        [$(($name, $kind, include_bytes!(concat!("assets/", $name)).as_slice())),*]
    };
}

const ASSETS: [(&str, &str, &[u8]); 12] = assets![
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "main.js": "text/javascript; charset=utf-8",
    "ask.js": "text/javascript; charset=utf-8",
    "make.js": "text/javascript; charset=utf-8",
    "picture.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "try.js": "text/javascript; charset=utf-8",
    "review.js": "text/javascript; charset=utf-8",
    "calibrate.js": "text/javascript; charset=utf-8",
    "drift.js": "text/javascript; charset=utf-8",
];

/// Routes of the files.
pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(|headers: HeaderMap| async move { file("index.html", &headers) }))
        .route("/favicon.ico", get(|headers: HeaderMap| async move { file("icon.svg", &headers) }))
        .route(
            "/assets/{name}",
            get(|Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers) }),
        )
}

fn file(name: &str, request: &HeaderMap) -> Response {
    let Some((_, kind, bytes)) = ASSETS.iter().find(|a| a.0 == name) else {
        return Failure::missing(format!("the page has no file `{name}`")).into_response();
    };
    let tag = format!("\"{}\"", hex(&Sha256::digest(bytes)[..12]));
    // The browser asks again each time and is mostly told that nothing has changed: a new program is never shown with an old page.
    let known = request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { bytes.into_response() };
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, &tag);
    set(header::CONTENT_TYPE, kind);
    set(header::CACHE_CONTROL, "no-cache");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("permissions-policy"), "camera=(self), microphone=(), geolocation=()");
    response
}
