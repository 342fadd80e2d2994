//! PBAS: learn from pictures of good parts alone; for a new picture give a verdict, a score and a map of where it
//! is wrong.
//!
//! [`train::train`] makes a [`detector::Model`] from good pictures; [`detector::Detector`] judges pictures;
//! [`model_file`] keeps a model in one file; [`eval::evaluate`] compares verdicts with labels.
//! The method is that of Chen et al., "Progressive Boundary Guided Anomaly Synthesis for Industrial Anomaly
//! Detection", IEEE TCSVT 35(2), 2025.
#![forbid(unsafe_code)]

pub mod backbone;
pub mod calibrate;
pub mod dataset;
pub mod demo;
pub mod detector;
pub mod error;
pub mod eval;
pub mod features;
pub mod head;
pub mod image;
pub mod metrics;
pub mod model_file;
pub mod patch;
pub mod preprocess;
pub mod report;
pub mod score;
pub mod settings;
pub mod train;
pub mod view;

pub use error::{Error, ErrorKind, Result};
pub use pbas_nn::linalg::Threads;
