//! Frozen networks as data, and a CPU engine that runs them. Knows nothing of anomalies.
#![warn(unsafe_op_in_unsafe_fn)]

mod error;
pub mod spill;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
