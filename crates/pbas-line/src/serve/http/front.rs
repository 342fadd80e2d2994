//! What stands before every route: who may ask, limits on the body, one line in the log.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::ListenOptions;
use super::auth::Tokens;
use super::body::{Broken, Guarded, UntilStop, too_long};
use crate::page::Role;
use crate::serve::limits::Limits;
use crate::serve::refusal::{Kind, Refusal};

/// What a route says of a request, in the extensions of its answer: for the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The model.
    pub model: String,
    /// Pictures that were judged.
    pub pictures: usize,
    /// Longest wait for a turn.
    pub wait_ms: f64,
    /// Longest judgement.
    pub judge_ms: f64,
}

/// An answered request.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The route's pattern, `other` where there is none.
    pub route: String,
    /// Status of the answer.
    pub status: u16,
    /// From the head to the answer.
    pub seconds: f64,
    /// Why there was no verdict.
    pub kind: Option<&'static str>,
}

/// Told of every answer.
pub type Observer = Arc<dyn Fn(&Seen) + Send + Sync>;

/// What stands before every route.
pub struct Front {
    tokens: Option<Tokens>,
    /// Without tokens only names of this machine are answered to, where nobody has said otherwise: a page from elsewhere whose name was made
    /// to point here ("DNS rebinding") bears its own name.
    this_machine_only: bool,
    limits: Limits,
    observer: Option<Observer>,
    stopping: watch::Receiver<bool>,
}

impl Front {
    /// By the options of a listener that listens on `address`.
    pub fn new(options: &ListenOptions, address: SocketAddr, stopping: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self {
            tokens: options.tokens.clone(),
            this_machine_only: options.tokens.is_none() && !options.insecure && address.ip().is_loopback(),
            limits: options.limits.clone(),
            observer: options.observer.clone(),
            stopping,
        })
    }

    /// The router behind this front.
    pub fn before(self: Arc<Self>, router: Router) -> Router {
        router.layer(from_fn_with_state(self, pass))
    }

    /// What the request's sender may do.
    fn admit(&self, request: &Request) -> Result<Role, Refusal> {
        let (path, method, headers) = (request.uri().path(), request.method(), request.headers());
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if self.this_machine_only && !host(headers).is_none_or(is_this_machine) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "the request is for another host than this machine",
            )
            .with_hint("ask by 127.0.0.1 or localhost; for other names use `--tokens`, or `--insecure`"));
        }
        if changes && is_foreign(headers) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "a page from elsewhere may not ask this server",
            ));
        }
        let Some(tokens) = &self.tokens else { return Ok(Role::Admin) };
        let role = tokens.role(headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes));
        match role {
            Some(Role::Admin) => Ok(Role::Admin),
            Some(Role::Read) if changes && !is_judging(path) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "this needs an admin token; the token of the request may only look and have pictures judged",
            )),
            Some(Role::Read) => Ok(Role::Read),
            // The page holds no data; it asks for the token. A supervisor that asks for health has none.
            None if !changes && is_open(path) => Ok(Role::Read),
            None => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "expected a known token in `Authorization: Bearer TOKEN`",
            )),
        }
    }
}

fn is_open(path: &str) -> bool {
    path == "/" || path.starts_with("/assets/") || path.starts_with("/v2/health/")
}

/// Requests that are sent by POST and change nothing but the record of verdicts.
fn is_judging(path: &str) -> bool {
    path.starts_with("/v1/predict/") || path.starts_with("/v1/try/") || path.starts_with("/v2/")
}

fn host(headers: &HeaderMap) -> Option<&str> {
    // One that is no text is none of this machine's.
    headers.get(header::HOST).map(|h| h.to_str().unwrap_or("?"))
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a browser says that a page of another origin sends this.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|(_, host)| host);
    origin.is_none() || origin != host(headers)
}

async fn pass(State(front): State<Arc<Front>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map(|m| m.as_str().to_owned());
    let broken = Broken::default();
    let length = request.body().size_hint().exact();
    let mut response = match front.admit(&request) {
        Err(refusal) => refusal.into_response(),
        Ok(_) if length.is_some_and(|n| n > front.limits.body as u64) => {
            too_long(&front.limits).into_response()
        }
        Ok(role) => {
            request.extensions_mut().insert(role);
            let request = request.map(|body| Body::new(Guarded::new(body, &front.limits, broken.clone())));
            next.run(request).await
        }
    };
    if let Some(refusal) = broken.refusal(&front.limits) {
        response = refusal.into_response();
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && !response.headers().contains_key(header::CONTENT_TYPE)
    {
        response = with_body(response, "method", &format!("`{path}` takes no {method}"));
    }
    let is_news = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"text/event-stream"));
    if is_news {
        let mut stopping = front.stopping.clone();
        response = response.map(|body| {
            Body::new(UntilStop::new(body, async move {
                // The sender is gone where the server has ended.
                let _ = stopping.wait_for(|&stop| stop).await;
            }))
        });
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let seen = Seen {
        route: route.unwrap_or_else(|| "other".to_owned()),
        status: response.status().as_u16(),
        seconds: start.elapsed().as_secs_f64(),
        kind: response.extensions().get::<Kind>().map(|k| k.0),
    };
    log(&method, &path, length, &seen, response.extensions().get::<Note>());
    if let Some(observer) = &front.observer {
        observer(&seen);
    }
    response
}

/// An answer of the router's own, with a body that says what it means.
fn with_body(response: Response, kind: &'static str, message: &str) -> Response {
    let (parts, _) = response.into_parts();
    let mut said = Refusal::new(parts.status, kind, message).into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        said.headers_mut().insert(header::ALLOW, allow.clone());
    }
    said
}

/// The one line of a request: no query, no header, nothing of its body.
fn log(method: &Method, path: &str, bytes: Option<u64>, seen: &Seen, note: Option<&Note>) {
    let ms = (seen.seconds * 1e4).round() / 10.0;
    let Seen { status, kind, .. } = seen;
    match note {
        Some(Note { model, pictures, wait_ms, judge_ms }) => tracing::info!(
            %method, path, status, ms, bytes, model, pictures, wait_ms = wait_ms.round(), judge_ms = judge_ms.round(), "request"
        ),
        None => tracing::info!(%method, path, status, ms, bytes, kind, "request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for host in ["localhost", "LocalHost:8321", "127.0.0.1:8321", "127.1.2.3", "[::1]:8321", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["evil.example:8321", "127.0.0.1.evil.example", "192.168.1.4:8321", "", "?", "[::2]:1"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn pages_from_elsewhere() {
        let headers = |origin: &str| {
            HeaderMap::from_iter([
                (header::HOST, HeaderValue::from_static("line4:8321")),
                (header::ORIGIN, HeaderValue::from_str(origin).unwrap()),
            ])
        };
        assert!(!is_foreign(&headers("http://line4:8321")) && !is_foreign(&headers("https://line4:8321")));
        assert!(is_foreign(&headers("http://line4")) && is_foreign(&headers("null")));
        assert!(is_foreign(&headers("http://evil.example")) && !is_foreign(&HeaderMap::new()));
    }
}
