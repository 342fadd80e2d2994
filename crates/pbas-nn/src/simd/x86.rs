//! Vectors of x86-64 beyond what all its processors have.

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
    _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};

use super::{Kernel, Vector};

/// # Safety
/// The processor has AVX2 and FMA; and what the kernel asks for.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx2>() }
}

/// # Safety
/// The processor has AVX-512 F, AVX2 and FMA; and what the kernel asks for.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx512>() }
}

/// Eight values in an AVX register. Tiles: 6 x 2 sums are 12 of 16 registers, two hold weights, one the row's value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(__m256);

// SAFETY: each function is one or two instructions of AVX2 or FMA, which the caller must know to be there; `load` and
// `store` touch eight values as `LANES` says.
unsafe impl Vector for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: as the trait says; unaligned.
        Self(unsafe { _mm256_loadu_ps(p) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as the trait says; unaligned.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm256_set1_ps(v) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn add(self, a: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm256_add_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn sub(self, a: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm256_sub_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn mul(self, a: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm256_mul_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn max(self, a: Self) -> Self {
        // The instruction gives its second operand if one is NaN.
        // SAFETY: as the trait says.
        Self(unsafe { _mm256_max_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        // Both instructions give their second operand if one is NaN, so a NaN of `self` goes through.
        // SAFETY: as the trait says.
        Self(unsafe { _mm256_min_ps(high.0, _mm256_max_ps(low.0, self.0)) })
    }
}

/// Sixteen values in an AVX-512 register. Tiles: 14 x 2 sums are 28 of 32 registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(__m512);

// SAFETY: each function is one or two instructions of AVX-512 F, which the caller must know to be there; `load` and
// `store` touch sixteen values as `LANES` says.
unsafe impl Vector for Avx512 {
    const LANES: usize = 16;
    const ROWS: usize = 14;
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: as the trait says; unaligned.
        Self(unsafe { _mm512_loadu_ps(p) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as the trait says; unaligned.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm512_set1_ps(v) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn add(self, a: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm512_add_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn sub(self, a: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm512_sub_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn mul(self, a: Self) -> Self {
        // SAFETY: as the trait says.
        Self(unsafe { _mm512_mul_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn max(self, a: Self) -> Self {
        // The instruction gives its second operand if one is NaN.
        // SAFETY: as the trait says.
        Self(unsafe { _mm512_max_ps(self.0, a.0) })
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        // Both instructions give their second operand if one is NaN, so a NaN of `self` goes through.
        // SAFETY: as the trait says.
        Self(unsafe { _mm512_min_ps(high.0, _mm512_max_ps(low.0, self.0)) })
    }
}
