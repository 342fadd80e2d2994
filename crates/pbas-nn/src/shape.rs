//! Shape inference: every mismatch in a graph is found here, before anything runs.

use crate::graph::{Graph, Op};
use crate::{Error, ErrorKind, Result};

/// Shape of one map, laid out `[height, width, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values a position.
    pub channels: usize,
}

impl Shape {
    /// Positions.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.height * self.width
    }
    /// Values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions() * self.channels
    }
    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Largest map that is planned for: 2^31 values (8 GiB).
pub const MAX_MAP_VALUES: usize = 1 << 31;

/// The shape of every node's map for a picture of `height x width`.
///
/// # Errors
/// A window that does not fit, weights of another size than their node says, maps of two shapes added,
/// a map beyond [`MAX_MAP_VALUES`]; the message names the node.
pub fn infer(graph: &Graph, height: usize, width: usize) -> Result<Vec<Shape>> {
    let mut shapes: Vec<Shape> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let name = &node.name;
        let input = node.inputs.first().map(|&i| shapes[i]);
        let windowed = |channels: usize, window: &crate::graph::Window| -> Result<Shape> {
            let s = input.unwrap_or(Shape { height, width, channels: 0 });
            if window.kernel == 0 || window.stride == 0 {
                return Err(Error::shape(format!("node `{name}`: kernel and stride must be at least 1")));
            }
            match (window.along(s.height), window.along(s.width)) {
                (Some((h, _)), Some((w, _))) => Ok(Shape { height: h, width: w, channels }),
                _ => Err(Error::shape(format!(
                    "node `{name}`: a kernel of {0} x {0} does not fit a map of {1} x {2}",
                    window.kernel, s.height, s.width
                ))),
            }
        };
        let expect = |what: &str, found: usize, factors: &[usize]| -> Result<()> {
            let expected = factors.iter().try_fold(1usize, |product, &f| product.checked_mul(f));
            if expected == Some(found) {
                return Ok(());
            }
            let expected =
                expected.map_or_else(|| format!("{factors:?} (too many to count)"), |e| e.to_string());
            Err(Error::shape(format!("node `{name}`: expected {expected} {what}, found {found}")))
        };
        let shape = match &node.op {
            Op::Input { channels } => Shape { height, width, channels: *channels },
            Op::Conv2d { window, out_channels, weight, bias, .. } => {
                let channels_in = input.map_or(0, |s| s.channels);
                expect("weights", weight.len(), &[*out_channels, window.kernel, window.kernel, channels_in])?;
                expect("biases", bias.len(), &[*out_channels])?;
                windowed(*out_channels, window)?
            }
            Op::DepthwiseConv2d { window, weight, bias, .. } => {
                let channels = input.map_or(0, |s| s.channels);
                expect("weights", weight.len(), &[window.kernel, window.kernel, channels])?;
                expect("biases", bias.len(), &[channels])?;
                windowed(channels, window)?
            }
            Op::MaxPool { window } => windowed(input.map_or(0, |s| s.channels), window)?,
            Op::Add { .. } => {
                let (a, b) = (shapes[node.inputs[0]], shapes[node.inputs[1]]);
                if a != b {
                    return Err(Error::shape(format!("node `{name}`: adds maps of {a:?} and {b:?}")));
                }
                a
            }
        };
        let values = shape.height.checked_mul(shape.width).and_then(|p| p.checked_mul(shape.channels));
        if values.is_none_or(|v| v == 0 || v > MAX_MAP_VALUES) {
            return Err(Error::new(
                ErrorKind::Limits,
                format!("node `{name}`: expected a map of 1 to {MAX_MAP_VALUES} values, found {shape:?}"),
            ));
        }
        shapes.push(shape);
    }
    Ok(shapes)
}
