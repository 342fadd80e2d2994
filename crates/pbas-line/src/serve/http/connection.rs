//! One connection: requests one after another, slow heads cut off with 408, and a last answer that reaches a client that is still sending.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::serve::limits::Limits;

/// Headers of one request; more get 431.
const HEADERS: usize = 64;
/// Bytes of a request's head; more get 431.
const HEAD_BYTES: usize = 32 << 10;
/// Time in which a client that is still sending may take the last answer.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that are read and thrown away meanwhile.
const LINGER_BYTES: usize = 64 << 20;

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 67\r\n\r\n\
{\"error\":\"the request's head did not come in time\",\"kind\":\"slow\"}\r\n";
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: application/json\r\ncontent-length: 54\r\n\r\n\
{\"error\":\"too many connections at once\",\"kind\":\"busy\"}";

/// Answers the requests of a connection until it ends, or until `stopping` and the answer of the request at hand is sent.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    limits: &Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        Box::pin(router.clone().oneshot(request.map(Body::new)))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let ended = {
        let mut stopping = pin!(stopping.wait_for(|&stop| stop));
        let mut told = false;
        poll_fn(|context| {
            if !told && stopping.as_mut().poll(context).is_ready() {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            // Shut down below, since a socket that is closed with bytes unread takes the last answer with it.
            connection.poll_without_shutdown(context)
        })
        .await
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    if let Err(e) = ended {
        // An idle connection is closed without a word.
        if e.is_timeout() && !parts.read_buf.is_empty() {
            // It may be gone.
            let _ = timeout(LINGER, stream.write_all(TOO_SLOW)).await;
        }
        tracing::debug!(error = %e, "a connection ended early");
    }
    linger(stream).await;
}

/// Tells a client that there are too many, and closes.
pub async fn turn_away(mut stream: TcpStream) {
    // It may be gone; nothing is owed to it.
    let _ = timeout(LINGER, stream.write_all(TOO_MANY)).await;
    linger(stream).await;
}

/// Closes the way out and reads on for a while: a system that closes a socket with unread bytes resets it, and the client would never see the
/// answer that was sent.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let read_on = async {
        stream.shutdown().await?;
        let mut waste = vec![0; 16 << 10];
        let mut left = LINGER_BYTES;
        loop {
            let n = stream.read(&mut waste).await?;
            left = left.saturating_sub(n);
            if n == 0 || left == 0 {
                return Ok::<(), std::io::Error>(());
            }
        }
    };
    // Whatever goes wrong here, the connection is over.
    let _ = timeout(LINGER, read_on).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_answers_have_the_length_they_say() {
        for answer in [TOO_SLOW, TOO_MANY] {
            let text = std::str::from_utf8(answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), body.len());
            assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["error"].is_string());
        }
    }
}
