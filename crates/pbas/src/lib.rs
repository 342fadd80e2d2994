//! PBAS: learn from pictures of good parts alone; for a new picture give a verdict, a score and a map.
#![forbid(unsafe_code)]

pub mod dataset;
pub mod demo;
pub mod error;
pub mod image;
pub mod metrics;
pub mod preprocess;
pub mod report;
pub mod score;

pub use error::{Error, ErrorKind, Result};
