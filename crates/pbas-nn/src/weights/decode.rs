//! Stored numbers -> float32: element types, strides and storage offsets of a tensor over a byte storage.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::vectorized;
use crate::{Error, ErrorKind, Result};

/// Torch allows 64 axes; no weight has more than a handful, and a short limit keeps hostile shapes cheap.
pub(super) const MAX_AXES: usize = 16;

/// Element types that weight files use. All become float32, little-endian in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes per element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// All elements of `bytes` in their order; bytes after the last whole element are ignored.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => halves(bytes),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Self::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Self::U8 => each(bytes, |[b]: [u8; 1]| f32::from(b)),
            Self::Bool => each(bytes, |[b]: [u8; 1]| f32::from(u8::from(b != 0))),
        }
    }

    /// As [`Dtype::decode`], into a buffer that is used again and again.
    pub(super) fn decode_into(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F16 => {
                out.resize(bytes.len() / 2, 0.0);
                widen(bytes, out);
            }
            _ => *out = self.decode(bytes),
        }
    }

    /// Whether every element is a finite float32, without decoding those of the usual types: an exponent of ones alone
    /// stands for an infinity or no number.
    pub(super) fn all_finite(self, bytes: &[u8]) -> bool {
        match self {
            Self::F32 => no_exponent_of_ones(bytes, |b| u32::from_le_bytes(b) & 0x7f80_0000 != 0x7f80_0000),
            Self::F16 => no_exponent_of_ones(bytes, |b| u16::from_le_bytes(b) & 0x7c00 != 0x7c00),
            Self::Bf16 => no_exponent_of_ones(bytes, |b| u16::from_le_bytes(b) & 0x7f80 != 0x7f80),
            Self::F64 => self.decode(bytes).iter().all(|v| v.is_finite()),
            Self::I64 | Self::I32 | Self::I16 | Self::I8 | Self::U8 | Self::Bool => true,
        }
    }
}

/// Whether all elements pass, block by block without a branch an element.
fn no_exponent_of_ones<const N: usize>(bytes: &[u8], passes: impl Fn([u8; N]) -> bool) -> bool {
    vectorized!({
        let mut blocks = bytes.as_chunks::<N>().0.chunks(1024);
        blocks.all(|block| block.iter().fold(true, |all, &element| all & passes(element)))
    })
}

fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)).collect()
}

/// float16 in blocks, for which the `half` crate uses the processor's conversion where there is one: weights inside
/// the program are float16, and are read at every start.
fn halves(bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / 2];
    widen(bytes, &mut out);
    out
}

fn widen(bytes: &[u8], out: &mut [f32]) {
    const BLOCK: usize = 1024;
    let bytes = bytes.as_chunks::<2>().0;
    let mut block = [f16::ZERO; BLOCK];
    for (from, to) in bytes.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        for (half, &pair) in block.iter_mut().zip(from) {
            *half = f16::from_le_bytes(pair);
        }
        block[..to.len()].convert_to_f32_slice(to);
    }
}

/// A tensor as torch stores it: a strided window into a flat storage. All figures in elements.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Element of the storage at which the tensor's first element lies.
    pub offset: usize,
    /// Extent of each axis, outermost first.
    pub shape: Vec<usize>,
    /// Step in the storage for one step along each axis.
    pub strides: Vec<usize>,
}

impl Layout {
    /// Elements of the tensor.
    ///
    /// # Errors
    /// On overflow, or with more than [`MAX_AXES`] axes.
    pub(super) fn elements(&self) -> Result<usize> {
        if self.shape.len() > MAX_AXES || self.shape.len() != self.strides.len() {
            return Err(Error::format(format!(
                "expected at most {MAX_AXES} axes with a stride each, found {} and {}",
                self.shape.len(),
                self.strides.len()
            )));
        }
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| {
            Error::new(ErrorKind::Limits, format!("shape {:?} overflows the address space", self.shape))
        })
    }

    /// The tensor's elements, row-major, out of the storage's bytes.
    ///
    /// # Errors
    /// If any element would lie outside `storage`.
    pub(super) fn gather(&self, dtype: Dtype, storage: &[u8]) -> Result<Vec<f32>> {
        let elements = self.elements()?;
        if elements == 0 {
            return Ok(Vec::new());
        }
        let size = dtype.size();
        let available = storage.len() / size;
        match self.last_element() {
            Some(last) if last < available => {}
            _ => {
                return Err(Error::format(format!(
                    "shape {:?} with strides {:?} from element {} leaves its storage of {available} elements",
                    self.shape, self.strides, self.offset
                )));
            }
        }
        if self.is_contiguous() {
            return Ok(dtype.decode(&storage[self.offset * size..][..elements * size]));
        }
        let mut picked = Vec::with_capacity(elements * size);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..elements {
            picked.extend_from_slice(&storage[at * size..][..size]);
            // One step of the odometer: the innermost axis that is not at its end moves on, those inside it
            // start again.
            for axis in (0..index.len()).rev() {
                if index[axis] + 1 < self.shape[axis] {
                    index[axis] += 1;
                    at += self.strides[axis];
                    break;
                }
                at -= index[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
        Ok(dtype.decode(&picked))
    }

    /// Storage index of the element farthest from the start (strides are not negative); no axis is empty.
    fn last_element(&self) -> Option<usize> {
        self.shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (&dim, &stride)| at.checked_add((dim - 1).checked_mul(stride)?))
    }

    /// Whether the elements lie row-major without gaps. The stride of an axis of extent 1 says nothing.
    fn is_contiguous(&self) -> bool {
        let mut step = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&dim, &stride)| {
            let fits = dim == 1 || stride == step;
            step *= dim;
            fits
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
        values.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn strides_agree_with_indexing_element_by_element() {
        let storage: Vec<f32> = (0..200).map(|v| v as f32 * 0.5).collect();
        let cases: [(usize, &[usize], &[usize]); 8] = [
            (0, &[4, 5], &[5, 1]),
            (3, &[4, 5], &[1, 4]),
            (7, &[2, 3, 4], &[40, 4, 1]),
            (0, &[2, 3, 2, 2], &[12, 1, 6, 3]), // channels last
            (9, &[3, 4], &[0, 2]),              // expanded
            (5, &[], &[]),
            (5, &[1, 6, 1], &[999, 1, 77]),
            (199, &[1], &[1]),
        ];
        for (offset, shape, strides) in cases {
            let layout = Layout { offset, shape: shape.to_vec(), strides: strides.to_vec() };
            let fast = layout.gather(Dtype::F32, &bytes(storage.iter().copied())).unwrap();
            let elements: usize = shape.iter().product();
            let slow: Vec<f32> = (0..elements)
                .map(|flat| {
                    let (mut rest, mut at) = (flat, offset);
                    for axis in (0..shape.len()).rev() {
                        at += rest % shape[axis] * strides[axis];
                        rest /= shape[axis];
                    }
                    storage[at]
                })
                .collect();
            assert_eq!(fast, slow, "{layout:?}");
        }
    }

    #[test]
    fn what_leaves_the_storage_or_overflows_is_refused() {
        let storage = bytes([0.0; 12]);
        let cases: [(usize, &[usize], &[usize]); 6] = [
            (1, &[3, 4], &[4, 1]),
            (0, &[3, 4], &[5, 1]),
            (12, &[1], &[1]),
            (usize::MAX, &[2], &[1]),
            (0, &[2], &[usize::MAX]),
            (0, &[usize::MAX, 2], &[0, 0]),
        ];
        for (offset, shape, strides) in cases {
            let layout = Layout { offset, shape: shape.to_vec(), strides: strides.to_vec() };
            assert!(layout.gather(Dtype::F32, &storage).is_err(), "{layout:?}");
        }
        let empty = Layout { offset: 99, shape: vec![0, 3], strides: vec![3, 1] };
        assert!(empty.gather(Dtype::F32, &storage).unwrap().is_empty());
    }

    #[test]
    fn every_float16_becomes_what_its_own_conversion_says() {
        // An odd count, so that the last block is not full; NaN compared by being one.
        let all: Vec<u8> = (0..=u16::MAX).chain([0x3c00]).flat_map(u16::to_le_bytes).collect();
        let fast = Dtype::F16.decode(&all);
        assert_eq!(fast.len(), 65_537);
        for (bits, fast) in (0..=u16::MAX).chain([0x3c00]).zip(fast) {
            let slow = f16::from_bits(bits).to_f32();
            assert!(fast.to_bits() == slow.to_bits() || (fast.is_nan() && slow.is_nan()), "{bits:#06x}");
        }
    }

    #[test]
    fn every_element_type_decodes() {
        let cases: [(Dtype, Vec<u8>, [f32; 2]); 10] = [
            (Dtype::F32, bytes([1.5, -2.0]), [1.5, -2.0]),
            (Dtype::F16, vec![0x00, 0x3e, 0x00, 0xc0], [1.5, -2.0]),
            (Dtype::Bf16, vec![0xc0, 0x3f, 0x00, 0xc0], [1.5, -2.0]),
            (Dtype::F64, [1.5f64, -2.0].map(f64::to_le_bytes).concat(), [1.5, -2.0]),
            (Dtype::I64, [7i64, -(1 << 40)].map(i64::to_le_bytes).concat(), [7.0, -1.099_511_6e12]),
            (Dtype::I32, [7i32, -70_000].map(i32::to_le_bytes).concat(), [7.0, -70_000.0]),
            (Dtype::I16, [7i16, -300].map(i16::to_le_bytes).concat(), [7.0, -300.0]),
            (Dtype::I8, vec![7, 0xff], [7.0, -1.0]),
            (Dtype::U8, vec![7, 0xff], [7.0, 255.0]),
            (Dtype::Bool, vec![0, 2], [0.0, 1.0]),
        ];
        for (dtype, bytes, expected) in cases {
            assert_eq!(bytes.len(), 2 * dtype.size());
            assert_eq!(dtype.decode(&bytes), expected, "{dtype:?}");
        }
    }
}
