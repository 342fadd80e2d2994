//! Weights of 3 x 3 convolutions at the points of a tile, packed for the product kernel.

use super::{MAX_POINTS, TAPS, weight_matrix};
use crate::kernel::product::Packed;
use crate::precision::Precision;
use crate::simd::Isa;
use crate::vectorized;

/// Input channels that are transformed at a time.
const BLOCK: usize = 8;
/// The most outputs of a panel.
const MAX_PANEL: usize = 32;

/// The matrix `[outputs, inputs]` of each point of a tile, and the bias.
#[derive(Debug, Clone)]
pub(crate) struct Transformed {
    /// Outputs of a tile along one axis.
    pub tile: usize,
    /// One matrix a point, row after row of the tile.
    pub points: Vec<Packed>,
    pub bias: Vec<f32>,
}

impl Transformed {
    /// Transforms `weight`, `[outputs, 3, 3, inputs]`, for tiles of `tile` outputs a side.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn new(isa: Isa, precision: Precision, weight: &[f32], bias: &[f32], tile: usize) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / (TAPS * TAPS * outputs);
        assert_eq!(weight.len(), outputs * TAPS * TAPS * inputs, "weights of {outputs} x 3 x 3 x {inputs}");
        let matrix = weight_matrix(tile);
        let zeros = match precision {
            Precision::F32 => Packed::zeros,
            Precision::Bf16 => Packed::zeros_of_pairs,
        };
        let mut points = vec![zeros(isa, outputs, inputs); matrix.len().pow(2)];
        let panels = points[0].panels();
        vectorized!({
            for p in 0..panels {
                for c in (0..inputs).step_by(BLOCK) {
                    block(weight, [p, c, inputs], &matrix, &mut points);
                }
            }
        });
        Self { tile, points, bias: bias.to_vec() }
    }

    /// Bytes of the matrices.
    pub(crate) fn bytes(&self) -> usize {
        self.points.iter().map(|p| size_of::<f32>() * p.outputs() * p.inputs()).sum()
    }
}

/// The outputs of panel `p` for the inputs from `c` on: sums in float64, rounded once.
#[inline(always)]
fn block(weight: &[f32], [p, c, inputs]: [usize; 3], matrix: &[[f64; TAPS]], points: &mut [Packed]) {
    let (first, width, used) = points[0].panel_outputs(p);
    let count = BLOCK.min(inputs - c);
    let mut taps = [[[0.0f64; MAX_PANEL]; TAPS * TAPS]; BLOCK];
    for o in 0..used {
        for tap in 0..TAPS * TAPS {
            let row = &weight[((first + o) * TAPS * TAPS + tap) * inputs + c..][..count];
            for (i, &w) in row.iter().enumerate() {
                taps[i][tap][o] = f64::from(w);
            }
        }
    }
    let n = matrix.len();
    for (i, taps) in taps[..count].iter().enumerate() {
        // Along the rows of the kernel, then along its columns.
        let mut half = [[[0.0f64; MAX_PANEL]; TAPS]; MAX_POINTS];
        for (half, g) in half.iter_mut().zip(matrix) {
            for x in 0..TAPS {
                for o in 0..MAX_PANEL {
                    half[x][o] = g[0] * taps[x][o] + g[1] * taps[TAPS + x][o] + g[2] * taps[2 * TAPS + x][o];
                }
            }
        }
        for (a, half) in half[..n].iter().enumerate() {
            for (b, g) in matrix.iter().enumerate() {
                let mut line = [0.0f32; MAX_PANEL];
                for (o, value) in line.iter_mut().enumerate() {
                    *value = (g[0] * half[0][o] + g[1] * half[1][o] + g[2] * half[2][o]) as f32;
                }
                points[a * n + b].set_line(p, c + i, &line[..width]);
            }
        }
    }
}
