//! A convolution's tensors with their BatchNorm folded in, in the layout of the graph.

use pbas_nn::graph::{BatchNorm, fold_batch_norm};
use pbas_nn::weights::{NamedTensors, Tensor};
use rayon::prelude::*;

use crate::{Error, Result};

/// A convolution with a square kernel and nothing between it and its activation.
pub(super) struct Folded {
    /// Output channels.
    pub out: usize,
    /// Input channels of each of them: 1 where the convolution is depthwise.
    pub inner: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// `[out, kernel row, kernel column, inner]`.
    pub weight: Vec<f32>,
    /// One an output channel.
    pub bias: Vec<f32>,
}

/// The tensor `NAME.weight` (torch's layout, `[out, in, row, column]`) with the BatchNorm `bn` folded in; where there is
/// a tensor `NAME.bias`, folding was done already.
///
/// # Errors
/// A missing tensor, or one of another shape; the message names it.
pub(super) fn folded(tensors: &NamedTensors, name: &str, bn: &str, eps: f64) -> Result<Folded> {
    let weight = tensor(tensors, &format!("{name}.weight"))?;
    let wrong = |expected: &str| {
        let found = &weight.shape;
        Error::input(format!("tensor `{name}.weight`: expected {expected}, found {found:?}"))
    };
    let [out, inner, kernel, columns] = weight.shape[..] else { return Err(wrong("4 axes")) };
    if kernel != columns {
        return Err(wrong("a square kernel"));
    }
    let values = |name: &str| -> Result<&[f32]> {
        let found = &tensor(tensors, name)?.data;
        if found.len() == out {
            return Ok(found);
        }
        Err(Error::input(format!("tensor `{name}`: expected {out} values, found {}", found.len())))
    };
    let bias = format!("{name}.bias");
    let (scale, bias) = if tensors.contains_key(&bias) {
        (vec![1.0; out], values(&bias)?.to_vec())
    } else {
        let part = |what: &str| values(&format!("{bn}.{what}"));
        let (weight, bias) = (part("weight")?, part("bias")?);
        fold_batch_norm(BatchNorm {
            weight,
            bias,
            mean: part("running_mean")?,
            var: part("running_var")?,
            eps,
        })
    };
    let taps = kernel * kernel;
    let mut laid_out = vec![0.0; weight.data.len()];
    let filter = (inner * taps).max(1);
    let filters =
        laid_out.par_chunks_exact_mut(filter).zip(weight.data.par_chunks_exact(filter)).zip(scale.par_iter());
    filters.for_each(|((to, from), scale)| {
        for (k, of_tap) in to.chunks_exact_mut(inner).enumerate() {
            of_tap.iter_mut().zip(from.iter().skip(k).step_by(taps)).for_each(|(t, f)| *t = f * scale);
        }
    });
    Ok(Folded { out, inner, kernel, weight: laid_out, bias })
}

/// The tensor of that name.
///
/// # Errors
/// If there is none.
pub(super) fn tensor<'t>(tensors: &'t NamedTensors, name: &str) -> Result<&'t Tensor> {
    tensors.get(name).ok_or_else(|| Error::input(format!("tensor `{name}` is missing")))
}
