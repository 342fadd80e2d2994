//! PBAS: learn from pictures of good parts alone; for a new picture give a verdict, a score and a map.
#![forbid(unsafe_code)]

pub mod dataset;
pub mod demo;
pub mod error;
pub mod head;
pub mod image;
pub mod metrics;
pub mod patch;
pub mod preprocess;
pub mod report;
pub mod score;
pub mod train;

pub use error::{Error, ErrorKind, Result};
