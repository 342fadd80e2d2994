//! Vectors of x86-64 beyond what all its processors have.

use std::arch::x86_64::{
    __m256, __m256bh, __m256i, __m512, __m512bh, _mm256_add_ps, _mm256_and_si256, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_ps, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use half::bf16;

use super::{Kernel, PairKernel, PairVector, Vector};

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

/// # Safety
/// The processor has AVX2 and FMA; and what the kernel asks for.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_pairs_avx2<K: PairKernel>(kernel: K) {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx2>() }
}

/// # Safety
/// The processor has AVX-512 F, AVX2 and FMA; and what the kernel asks for.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn run_pairs_avx512<K: PairKernel>(kernel: K) {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx512>() }
}

/// # Safety
/// The processor has AVX-512 F, AVX512-BF16, AVX2 and FMA; and what the kernel asks for.
#[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
pub(super) unsafe fn run_pairs_avx512_bf16<K: PairKernel>(kernel: K) {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx512Bf16>() }
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

/// A type of sixteen values in an AVX-512 register.
macro_rules! sixteen {
    ($name:ident, $about:literal) => {
        #[doc = $about]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name(__m512);

        // SAFETY: each function is one or two instructions of AVX-512 F, which the caller must know to be there; `load` and
        // `store` touch sixteen values as `LANES` says.
        unsafe impl Vector for $name {
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
    };
}

sixteen!(Avx512, "Sixteen values in an AVX-512 register. Tiles: 14 x 2 sums are 28 of 32 registers.");
sixteen!(Avx512Bf16, "As [`Avx512`], on processors that also have AVX512-BF16.");

// SAFETY: the halves as the trait says, by instructions of AVX2.
unsafe impl PairVector for Avx2 {
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        // SAFETY: as the trait says.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let high = _mm256_and_si256(bits, _mm256_set1_epi32(HIGH_HALF));
            [Self(_mm256_castsi256_ps(high)), Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)))]
        }
    }
}

// SAFETY: the halves as the trait says, by instructions of AVX-512 F.
unsafe impl PairVector for Avx512 {
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        // SAFETY: as the trait says.
        unsafe { halves(self.0).map(Self) }
    }
}

// SAFETY: sums and rounding by the instructions that the trait's own functions imitate; `store_bf16` writes sixteen values.
unsafe impl PairVector for Avx512Bf16 {
    const PAIR_ROWS: usize = Self::ROWS;
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        // SAFETY: as the trait says.
        unsafe { halves(self.0).map(Self) }
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn add_pairs(self, a: Self, b: Self) -> Self {
        // SAFETY: as the trait says; both types are 64 bytes of any content.
        unsafe {
            let [a, b] = [a.0, b.0].map(|v| std::mem::transmute::<__m512, __m512bh>(v));
            Self(_mm512_dpbf16_ps(self.0, a, b))
        }
    }
    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut bf16) {
        // SAFETY: as the trait says; both types are 32 bytes of any content; unaligned.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            _mm256_storeu_si256(p.cast(), rounded);
        }
    }
}

/// The bits of a float32 that are the bfloat16 number of its upper half.
const HIGH_HALF: i32 = i32::from_ne_bytes(0xffff_0000_u32.to_ne_bytes());

/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn halves(v: __m512) -> [__m512; 2] {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let high = _mm512_and_si512(bits, _mm512_set1_epi32(HIGH_HALF));
        [_mm512_castsi512_ps(high), _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))]
    }
}
