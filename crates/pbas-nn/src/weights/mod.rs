//! Weight files -> named tensors. Files are hostile until validated; nothing in them is ever executed.

use std::collections::BTreeMap;

/// A dense float32 tensor, row-major in the order of `shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extent of each axis, outermost first.
    pub shape: Vec<usize>,
    /// `shape` product values.
    pub data: Vec<f32>,
}

/// Tensors by name, as a state dict has them; sorted, so that iteration is deterministic.
pub type NamedTensors = BTreeMap<String, Tensor>;
