//! Parts as they come, by server-sent events.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};

use super::App;
use super::failure::Failure;
use crate::record::{Filter, Part};

/// Most parts that one who comes back is told of at once; who was away longer asks for the list.
const CATCH_UP: usize = 200;

/// `GET /v1/events`: `part` with a part's JSON, its number as the event's; `missed` where some were left out and the list is to be asked
/// for. With `Last-Event-ID` it goes on after that part.
pub(super) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    // Looked on first, read then: nothing falls between, and what comes twice is left out below.
    let news = app.hub.subscribe();
    let last =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse::<i64>().ok());
    let mut told = last.unwrap_or(0);
    let mut first = Vec::new();
    if let Some(last) = last {
        let filter = Filter { after: Some(last), limit: Some(CATCH_UP + 1), ..Filter::default() };
        let parts = app.blocking(move |app| Ok(app.hub.record().parts(&filter)?)).await?;
        if parts.len() > CATCH_UP {
            first.push(missed());
        } else {
            first.extend(parts.iter().map(event));
        }
        told = parts.last().map_or(last, |p| p.id);
    }
    let news = BroadcastStream::new(news).filter_map(move |item| match item {
        Ok(part) if part.id <= told => None,
        Ok(part) => Some(event(&part)),
        Err(BroadcastStreamRecvError::Lagged(_)) => Some(missed()),
    });
    // A comment at once, so that the other side knows that it is connected.
    let hello = tokio_stream::once(Event::default().comment("parts as they come"));
    let stream = hello.chain(tokio_stream::iter(first)).chain(news).map(Ok);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

fn missed() -> Event {
    Event::default().event("missed").data("{}")
}

fn event(part: &Part) -> Event {
    let told = Event::default().event("part").id(part.id.to_string()).json_data(part);
    // A part that is no JSON cannot be; the one who looks on then asks for the list.
    told.unwrap_or_else(|_| missed())
}
