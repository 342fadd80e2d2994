//! The vector that kernels are written over, and the one that every processor has.

use half::bf16;

use crate::precision::round;

/// Some float32 values in one register.
///
/// # Safety
/// SAFETY: Every function may be called only where the processor has the instructions of the implementing type (that of
/// [`Portable`] has no such condition); pointers must be valid for [`Vector::LANES`] values, without alignment.
#[allow(dead_code)] // Not all operations have a kernel that needs them on every processor.
pub(crate) unsafe trait Vector: Copy {
    /// Values a vector.
    const LANES: usize;
    /// Rows of a product's tile: so many rows of two vectors of sums, two vectors of weights and a row's value fit the registers.
    const ROWS: usize;
    /// Reads from `p`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes to `p`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn store(self, p: *mut f32);
    /// `v` in every lane.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn splat(v: f32) -> Self;
    /// `self + a b`; rounded once where the processor can.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// `self + a`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn add(self, a: Self) -> Self;
    /// `self - a`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn sub(self, a: Self) -> Self;
    /// `self a`.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn mul(self, a: Self) -> Self;
    /// `self` where it is larger than `a`, else `a`; so a NaN of `self` is lost, and one of `a` kept.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn max(self, a: Self) -> Self;
    /// `self` brought into `low..=high`; NaN stays NaN.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
}

/// Vectors whose lanes may also hold two bfloat16 numbers each, the first in the lower half.
///
/// # Safety
/// SAFETY: As [`Vector`].
pub(crate) unsafe trait PairVector: Vector {
    /// As [`Vector::ROWS`], of a product of pairs: few where pairs have to be taken apart first, which needs registers.
    const PAIR_ROWS: usize = 4;
    /// The upper and the lower numbers of all lanes, as float32.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn halves(self) -> [Self; 2];

    /// `self` plus the products of the pairs of `a` and `b`, the second ones first, each sum rounded ([`crate::precision`]).
    ///
    /// # Safety
    /// As the trait says.
    #[inline(always)]
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self {
        // Products of two bfloat16 numbers are exact in float32, so it makes no difference whether they are fused with the sums.
        // SAFETY: the caller's.
        unsafe {
            let ([a1, a0], [b1, b0]) = (a.halves(), b.halves());
            self.add_product(a1, b1).add_product(a0, b0)
        }
    }

    /// Writes the values, rounded to bfloat16 as [`crate::precision::round`] does it.
    ///
    /// # Safety
    /// As the trait says; `p` is valid for [`Vector::LANES`] bfloat16 numbers, without alignment.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16) {
        let mut values = [0.0f32; 16];
        const { assert!(Self::LANES <= 16) };
        // SAFETY: the values hold a vector; otherwise the caller's.
        unsafe {
            self.store(values.as_mut_ptr());
            for (i, &v) in values[..Self::LANES].iter().enumerate() {
                p.add(i).write_unaligned(round(v));
            }
        }
    }
}

/// A number that kernels write vectors as.
pub(crate) trait Number: Copy {
    /// Writes the values of a vector, rounded if need be.
    ///
    /// # Safety
    /// As [`Vector`]; `p` is valid for [`Vector::LANES`] numbers, without alignment.
    unsafe fn store<V: PairVector>(v: V, p: *mut Self);
}

impl Number for f32 {
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn store<V: PairVector>(v: V, p: *mut Self) {
        // SAFETY: as the trait says.
        unsafe { v.store(p) }
    }
}

impl Number for bf16 {
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn store<V: PairVector>(v: V, p: *mut Self) {
        // SAFETY: as the trait says.
        unsafe { v.store_bf16(p) }
    }
}

/// Some values, in whatever registers the compiler has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable<const N: usize>([f32; N]);

// SAFETY: plain Rust on values; only `load` and `store` touch memory, `N` values as `LANES` says.
unsafe impl<const N: usize> Vector for Portable<N> {
    const LANES: usize = N;
    const ROWS: usize = 4;
    // SAFETY: as the trait says: `p` is valid for `N` values.
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above; unaligned.
        Self(unsafe { p.cast::<[f32; N]>().read_unaligned() })
    }
    // SAFETY: as the trait says: `p` is valid for `N` values.
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above; unaligned.
        unsafe { p.cast::<[f32; N]>().write_unaligned(self.0) }
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; N])
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // Where fused multiply-add is no instruction of the base set, `mul_add` would be a slow function call.
        let fused = |i: usize| {
            if cfg!(target_arch = "aarch64") {
                a.0[i].mul_add(b.0[i], self.0[i])
            } else {
                self.0[i] + a.0[i] * b.0[i]
            }
        };
        Self(std::array::from_fn(fused))
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn add(self, a: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i]))
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn sub(self, a: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - a.0[i]))
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn mul(self, a: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * a.0[i]))
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn max(self, a: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] > a.0[i] { self.0[i] } else { a.0[i] }))
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        Self(std::array::from_fn(|i| {
            let v = if self.0[i] < low.0[i] { low.0[i] } else { self.0[i] };
            if v > high.0[i] { high.0[i] } else { v }
        }))
    }
}

// SAFETY: plain Rust on values.
unsafe impl<const N: usize> PairVector for Portable<N> {
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        let high = self.0.map(|v| f32::from_bits(v.to_bits() & 0xffff_0000));
        [Self(high), Self(self.0.map(|v| f32::from_bits(v.to_bits() << 16)))]
    }
}
