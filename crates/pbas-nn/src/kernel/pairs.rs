//! Rows of float32 values -> rows of bfloat16 pairs, one after the other: the left side of a product in bfloat16.
//!
//! The runs of a row (a window's lines) are laid end to end, so that pairs never depend on where a run begins; a row of an odd number of values
//! ends with a zero. A value is rounded once for all outputs: against the products this costs nothing.

use half::bf16;

use super::product::{Left, Rows};
use crate::precision::round;
use crate::simd::{Isa, PairKernel, PairVector};

/// Pairs written beyond the last row at most: rows are written in whole vectors.
const SLACK: usize = 8;

/// Float32 values that [`gather`] needs for `rows` rows of `k` values.
pub(crate) fn room(rows: usize, k: usize) -> usize {
    rows * k.div_ceil(2) + SLACK
}

/// The rows of `left`, `channels` values a run, rounded to bfloat16 into `out`, of which [`room`] is needed.
///
/// # Panics
/// If a row would lie outside the data of `left`, or `out` is shorter.
pub(crate) fn gather<'o>(isa: Isa, left: &Left<'_>, channels: usize, out: &'o mut [f32]) -> Left<'o> {
    let k = left.taps * channels;
    let pairs = k.div_ceil(2);
    if left.count > 0 && k > 0 {
        assert!(left.rows.run > 0, "runs of rows");
        let reach = left.rows.largest(left.count) + (left.taps - 1) * left.tap_stride + channels;
        assert!(reach <= left.data.len(), "rows reach to {reach} of {} values", left.data.len());
        assert!(room(left.count, k) <= out.len(), "{} rows of {k} values", left.count);
        let to = out.as_mut_ptr().cast::<bf16>();
        // SAFETY: all rows lie inside their data, and results inside `out`, which is borrowed uniquely (asserted above); sets are
        // only made for processors that have them.
        unsafe { isa.run_pairs(Gather { left, channels, pairs, to }) };
    }
    let data = &out[..left.count * pairs];
    Left { data, rows: Rows::dense(pairs), count: left.count, taps: 1, tap_stride: 0 }
}

/// Sound where all rows lie inside the data of `left`, and `to` is valid for as many pairs as [`room`] says.
struct Gather<'a> {
    left: &'a Left<'a>,
    channels: usize,
    pairs: usize,
    to: *mut bf16,
}

impl PairKernel for Gather<'_> {
    // SAFETY: see the type.
    #[inline(always)]
    unsafe fn run<V: PairVector>(self) {
        const { assert!(V::LANES <= 2 * SLACK) };
        let Self { left, channels, pairs, to } = self;
        let (data, end) = (left.data.as_ptr(), left.data.len());
        let reach = (left.taps - 1) * left.tap_stride + channels.next_multiple_of(V::LANES);
        let mut sources = left.rows.walk();
        for row in 0..left.count {
            let source = sources.next();
            // SAFETY: values are read inside the data: in whole vectors where these end there, too. Vectors may write beyond the run, what the
            // next run or row writes over; at the very end there is room for one.
            unsafe {
                let mut to = to.add(row * 2 * pairs);
                if source + reach <= end {
                    for tap in 0..left.taps {
                        let from = data.add(source + tap * left.tap_stride);
                        V::load(from).store_bf16(to);
                        let mut c = V::LANES;
                        while c < channels {
                            V::load(from.add(c)).store_bf16(to.add(c));
                            c += V::LANES;
                        }
                        to = to.add(channels);
                    }
                } else {
                    for tap in 0..left.taps {
                        let from = data.add(source + tap * left.tap_stride);
                        for c in 0..channels {
                            to.add(c).write(round(*from.add(c)));
                        }
                        to = to.add(channels);
                    }
                }
                if left.taps * channels % 2 == 1 {
                    to.write(bf16::ZERO); // The second number of the row's last pair.
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Activation;
    use crate::kernel::product::{Finish, Packed, product};
    use crate::precision::add_pair;

    /// Numbers of both signs over many orders of magnitude.
    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next() * (8.0 * next()).exp2()).collect()
    }

    /// Row `r` of `left`, as the definition has it.
    fn row(left: &Left<'_>, r: usize, channels: usize) -> Vec<bf16> {
        let start = r / left.rows.run * left.rows.run_stride + r % left.rows.run * left.rows.row_stride;
        let tap = |t: usize| &left.data[start + t * left.tap_stride..][..channels];
        let mut row: Vec<bf16> = (0..left.taps).flat_map(tap).map(|&v| round(v)).collect();
        row.resize(row.len().next_multiple_of(2), bf16::ZERO);
        row
    }

    #[test]
    fn products_of_pairs_are_those_of_the_slow_twin_bit_for_bit() {
        // Rows, taps, channels, values between taps, outputs.
        for [count, taps, channels, gap, n] in
            [[1, 1, 1, 0, 1], [7, 1, 24, 0, 16], [29, 3, 9, 5, 40], [13, 7, 21, 0, 65], [15, 1, 64, 0, 33]]
        {
            let (k, run) = (taps * channels, 5);
            let rows = Rows { run, run_stride: run * (channels + 2) + 3, row_stride: channels + 2 };
            let tap_stride = channels + gap;
            let len = rows.largest(count) + (taps - 1) * tap_stride + channels;
            let data = values(len, 1);
            let left = Left { data: &data, rows, count, taps, tap_stride };
            let (weight, bias, residual) = (values(n * k, 2), values(n, 3), values(count * n, 4));
            for isa in Isa::all() {
                let mut scratch = vec![f32::NAN; room(count, k)];
                let made = gather(isa, &left, channels, &mut scratch);
                let rows: Vec<Vec<bf16>> = (0..count).map(|r| row(&left, r, channels)).collect();
                assert_eq!(bytemuck::cast_slice::<f32, bf16>(made.data), rows.concat(), "{}", isa.name());
                let packed = Packed::pairs(isa, &weight, &bias, k);
                let mut out = vec![0.0; count * n];
                let finish = Finish { residual: Some(&residual), activation: Activation::Relu };
                product(&packed, 0..packed.panels(), &made, &mut out, Rows::dense(n), finish);
                for (r, a) in rows.iter().enumerate() {
                    for o in 0..n {
                        let mut b: Vec<bf16> = weight[o * k..][..k].iter().map(|&v| round(v)).collect();
                        b.resize(a.len(), bf16::ZERO);
                        let pairs = a.chunks_exact(2).zip(b.chunks_exact(2));
                        let sum = pairs.fold(bias[o], |s, (a, b)| add_pair(s, [a[0], a[1]], [b[0], b[1]]));
                        let expected = (sum + residual[r * n + o]).max(0.0);
                        assert_eq!(out[r * n + o], expected, "{}, row {r}, output {o}", isa.name());
                    }
                }
            }
        }
    }
}
