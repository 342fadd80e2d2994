//! ONNX files: the message types ([`proto`]) and a builder that keeps names unique ([`GraphBuilder`]). Knows nothing of anomalies;
//! [`crate::export`] fills it.

mod builder;
pub mod proto;

pub use builder::{Attribute, Element, Extent, GraphBuilder, Value};
