//! Frozen networks as data, and a CPU engine that runs them. Knows nothing of anomalies.
//!
//! A [`graph::Graph`] holds nodes and weights; [`shape::infer`] finds every mismatch before anything runs;
//! [`engine::cpu::Plan`] resolves a graph for one picture size and runs it; [`engine::reference`] is its slow twin.
//! [`weights`] reads weight files; [`linalg`] has the safe matrix product that training uses.
#![warn(unsafe_op_in_unsafe_fn)]

pub mod engine;
mod error;
pub mod graph;
mod kernel;
pub mod linalg;
mod precision;
pub mod shape;
pub mod simd;
pub mod spill;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
pub use precision::Precision;
