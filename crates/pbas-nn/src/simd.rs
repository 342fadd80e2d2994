//! Instruction sets, chosen once at run time, and the vector of each: kernels are written once over vectors and
//! compiled for every set.

use std::sync::OnceLock;

use crate::{Error, ErrorKind, Result};

/// Environment variable that forces an instruction set, for tests and for chasing differences between machines.
pub const VARIABLE: &str = "PBAS_CPU";

/// An instruction set that the engine has kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// What every processor of the architecture has (SSE2 on x86-64, NEON on AArch64).
    Portable,
    /// AVX2 and FMA: eight float32 a vector.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Isa {
    /// All sets of this processor, the slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            sets.push(Self::Avx2);
        }
        sets
    }

    /// The name by which [`VARIABLE`] forces it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
        }
    }

    /// Float32 values a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
        }
    }

    /// The set in use: the fastest of this processor, or the one that [`VARIABLE`] names. Read once.
    ///
    /// # Errors
    /// A set that is unknown, or that this processor lacks.
    pub fn current() -> Result<Self> {
        static CURRENT: OnceLock<std::result::Result<Isa, String>> = OnceLock::new();
        let chosen = CURRENT.get_or_init(|| {
            let forced = std::env::var_os(VARIABLE).map(|v| v.to_string_lossy().into_owned());
            Self::choose(forced.as_deref(), &Self::available())
        });
        chosen.clone().map_err(|message| Error::new(ErrorKind::Unsupported, message))
    }

    fn choose(forced: Option<&str>, available: &[Self]) -> std::result::Result<Self, String> {
        let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
        match forced {
            None => Ok(available.last().copied().unwrap_or(Self::Portable)),
            Some(name) => available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
                format!(
                    "{VARIABLE}: expected one of {} (what this processor has), found `{name}`",
                    names.join(", ")
                )
            }),
        }
    }
}

/// Some float32 values in one register.
///
/// # Safety
/// SAFETY: Every function may be called only where the processor has the instructions of the implementing type (that of
/// [`Portable`] has no such condition); pointers must be valid for [`Vector::LANES`] values, without alignment.
pub(crate) unsafe trait Vector: Copy {
    /// Values a vector.
    const LANES: usize;
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
    /// `self` brought into `low..=high`; NaN stays NaN.
    ///
    /// # Safety
    /// As the trait says.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
}

/// Four values, in whatever registers the compiler has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable([f32; 4]);

// SAFETY: plain Rust on values; only `load` and `store` touch memory, four values as `LANES` says.
unsafe impl Vector for Portable {
    const LANES: usize = 4;
    // SAFETY: as the trait says: `p` is valid for four values.
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: see above; unaligned.
        Self(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    // SAFETY: as the trait says: `p` is valid for four values.
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: see above; unaligned.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    // SAFETY: no condition.
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; 4])
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
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        Self(std::array::from_fn(|i| {
            let v = if self.0[i] < low.0[i] { low.0[i] } else { self.0[i] };
            if v > high.0[i] { high.0[i] } else { v }
        }))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
        _mm256_set1_ps, _mm256_storeu_ps,
    };

    use super::Vector;

    /// Eight values in an AVX register.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    // SAFETY: each function is one instruction of AVX2 or FMA, which the caller must know to be there; `load` and
    // `store` touch eight values as `LANES` says.
    unsafe impl Vector for Avx2 {
        const LANES: usize = 8;
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
        unsafe fn clamp(self, low: Self, high: Self) -> Self {
            // Both instructions give their second operand if one is NaN, so a NaN of `self` goes through.
            // SAFETY: as the trait says.
            Self(unsafe { _mm256_min_ps(high.0, _mm256_max_ps(low.0, self.0)) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_set_must_be_there() {
        let portable = [Isa::Portable];
        assert_eq!(Isa::choose(None, &portable), Ok(Isa::Portable));
        assert_eq!(Isa::choose(Some("portable"), &Isa::available()), Ok(Isa::Portable));
        let message = Isa::choose(Some("avx2"), &portable).unwrap_err();
        assert!(
            message.contains("PBAS_CPU") && message.contains("portable") && message.contains("`avx2`"),
            "{message}"
        );
    }

    fn check<V: Vector>() {
        let (a, b): (Vec<f32>, Vec<f32>) =
            ((0..8).map(|i| i as f32 - 3.0).collect(), (0..8).map(|i| 2.0 + i as f32).collect());
        let mut out = [0.0f32; 8];
        // SAFETY: the vectors are those of sets that `available` has; the slices hold eight values.
        unsafe {
            let v = V::splat(0.5).add_product(V::load(a.as_ptr()), V::load(b.as_ptr())).add(V::splat(1.0));
            v.clamp(V::splat(-4.0), V::splat(9.0)).store(out.as_mut_ptr());
        }
        for i in 0..V::LANES {
            assert_eq!(out[i], (0.5 + a[i] * b[i] + 1.0).clamp(-4.0, 9.0));
        }
        // SAFETY: as above.
        unsafe { V::splat(f32::NAN).clamp(V::splat(0.0), V::splat(6.0)).store(out.as_mut_ptr()) };
        assert!(out[0].is_nan(), "a NaN must not be hidden");
    }

    #[test]
    fn vectors_do_what_they_say() {
        check::<Portable>();
        #[cfg(target_arch = "x86_64")]
        if Isa::available().contains(&Isa::Avx2) {
            check::<Avx2>();
        }
    }
}
