//! A request's body within limits: length, pauses, time in all. What breaks one is noted, so that the answer can say so whatever route read
//! the body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::serve::limits::Limits;
use crate::serve::refusal::Refusal;

/// What a body broke, if anything.
#[derive(Debug, Clone, Default)]
pub struct Broken(Arc<AtomicU8>);

const TOO_LONG: u8 = 1;
const TOO_SLOW: u8 = 2;

impl Broken {
    /// The refusal that the request gets for it.
    pub fn refusal(&self, limits: &Limits) -> Option<Refusal> {
        match self.0.load(Ordering::Relaxed) {
            TOO_LONG => Some(too_long(limits)),
            TOO_SLOW => Some(Refusal::new(
                axum::http::StatusCode::REQUEST_TIMEOUT,
                "slow",
                format!(
                    "the request's body did not come in time: expected no pause above {} s and {} s in all",
                    limits.pause.as_secs_f64(),
                    limits.receive.as_secs_f64()
                ),
            )),
            _ => None,
        }
    }
}

/// The refusal of a body above the limit.
pub fn too_long(limits: &Limits) -> Refusal {
    Refusal::too_large(format!("the request's body is too long: expected at most {} bytes", limits.body))
}

/// A body that ends in an error where it breaks a limit.
pub struct Guarded {
    inner: Body,
    left: usize,
    limits: Limits,
    end: Instant,
    timer: Pin<Box<Sleep>>,
    broken: Broken,
}

impl Guarded {
    /// Guards a body; what it breaks is noted in `broken`.
    pub fn new(inner: Body, limits: &Limits, broken: Broken) -> Self {
        let end = Instant::now() + limits.receive;
        let timer = Box::pin(sleep_until(end.min(Instant::now() + limits.pause)));
        Self { inner, left: limits.body, limits: limits.clone(), end, timer, broken }
    }

    fn fail(&self, what: u8, text: &str) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.broken.0.store(what, Ordering::Relaxed);
        Poll::Ready(Some(Err(axum::Error::new(std::io::Error::other(text.to_owned())))))
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if length > self.left {
                    return self.fail(TOO_LONG, "the request's body is too long");
                }
                self.left -= length;
                let next = self.end.min(Instant::now() + self.limits.pause);
                self.timer.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending if self.timer.as_mut().poll(context).is_ready() => {
                self.fail(TOO_SLOW, "the request's body did not come in time")
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A stream of news that ends when the server stops, which it would otherwise keep from ending.
pub struct UntilStop {
    inner: Body,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl UntilStop {
    /// `inner` until `stop`.
    pub fn new(inner: Body, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { inner, stop: Box::pin(stop) }
    }
}

impl HttpBody for UntilStop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }
}
