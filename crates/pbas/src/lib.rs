//! PBAS: learn from pictures of good parts alone; for a new picture give a verdict, a score and a map of where it
//! is wrong.
//!
//! [`train::train`] makes a [`detector::Model`] from good pictures; [`detector::Detector`] judges pictures;
//! [`model_file`] keeps a model in one file; [`eval::evaluate`] compares verdicts with labels.
//! [`export::to_onnx`] writes the whole detector as one ONNX graph.
//! The method is that of Chen et al., "Progressive Boundary Guided Anomaly Synthesis for Industrial Anomaly
//! Detection", IEEE TCSVT 35(2), 2025.
//!
//! ```
//! use pbas::backbone::Backbone;
//! use pbas::detector::Detector;
//! use pbas::preprocess::InputSize;
//! use pbas::settings::{Length, Preset, Settings, Sizes};
//! use pbas::train::{TrainJob, observer::Silent, train};
//! use pbas::{dataset, demo, model_file};
//!
//! # fn main() -> pbas::Result<()> {
//! let folder = tempfile::tempdir().expect("a temporary folder");
//! for i in 0..6 {
//!     let part = demo::render(demo::DemoKind::Good, i);
//!     part.picture.write_png(&folder.path().join(format!("{i}.png")))?;
//! }
//! // Far too small and short for real use: leave out these two lines.
//! let mut settings = Settings::preset(Preset::Fast);
//! settings.sizes = Sizes::Fixed(vec![InputSize::square(64)]);
//! settings.head.length = Length::Steps(5);
//!
//! let pictures = dataset::good_pictures(folder.path())?;
//! let job = TrainJob {
//!     pictures: &pictures,
//!     backbone: Backbone::embedded()?,
//!     settings,
//!     cache_limit: 1 << 30,
//!     temp_dir: None,
//!     checkpoints: None,
//!     resume: false,
//! };
//! let training = train(job, &Silent)?;
//! let file = folder.path().join("washer.pbas");
//! model_file::save(&training.model, &file)?;
//!
//! let detector = Detector::new(model_file::load(&file)?)?;
//! let prediction = detector.predict_path(&pictures[0])?;
//! println!("{:?}: {:.2} against {:.2}", prediction.verdict, prediction.image_score, prediction.threshold);
//! # assert!(prediction.image_score.is_finite() && prediction.map.width == 64);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod backbone;
mod bands;
pub mod bench;
pub mod calibrate;
pub mod compare;
pub mod dataset;
pub mod demo;
pub mod detector;
pub mod doctor;
pub mod error;
pub mod eval;
pub mod export;
pub mod features;
pub mod head;
pub mod image;
pub mod metrics;
pub mod model_file;
pub mod neighbours;
pub mod onnx;
pub mod ordered;
pub mod patch;
pub mod preprocess;
pub mod recalibrate;
pub mod report;
pub mod roi;
pub mod score;
pub mod settings;
pub mod sizes;
pub mod statistics;
pub mod train;
pub mod view;
pub mod words;

pub use error::{Error, ErrorKind, Result};
pub use pbas_nn::Precision;
pub use pbas_nn::linalg::Threads;
pub use pbas_nn::simd::Isa;
