//! What one request may ask for, and how much may be asked for at once.

use std::time::Duration;

/// Limits of the server. Every one guards memory or time.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Pictures that may wait; more are refused with 503.
    pub queue: usize,
    /// From the picture's arrival to the beginning of its judgement; what cannot begin in time is refused with 503.
    pub deadline: Duration,
    /// Bytes of one request's body (413).
    pub body: usize,
    /// Bytes of the bodies of all requests together, waiting pictures included (503).
    pub bodies: usize,
    /// Pixels of one picture (413).
    pub pixels: u64,
    /// Pictures in one request.
    pub batch: usize,
    /// Time for a request's head, and for which an idle connection is kept.
    pub head: Duration,
    /// Longest pause between two pieces of a body (408).
    pub pause: Duration,
    /// Time for a whole body (408).
    pub receive: Duration,
    /// Connections at once; more are told 503 and closed.
    pub connections: usize,
    /// Time for accepted work once the server is told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 64,
            deadline: Duration::from_secs(2),
            body: 32 << 20,
            bodies: 256 << 20,
            pixels: 50_000_000,
            batch: 16,
            head: Duration::from_secs(15),
            pause: Duration::from_secs(10),
            receive: Duration::from_secs(60),
            connections: 512,
            grace: Duration::from_secs(30),
        }
    }
}
