//! Instruction sets, chosen once at run time, and the vector of each: kernels are written once over vectors and
//! compiled for every set (`Kernel`).

mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub(crate) use vector::{Number, PairVector, Portable, Vector};
#[cfg(target_arch = "x86_64")]
use x86::{Avx2, Avx512};

use crate::{Error, ErrorKind, Result};

/// Environment variable that forces an instruction set, for tests and for chasing differences between machines.
pub const VARIABLE: &str = "PBAS_CPU";

/// An instruction set that the engine has kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// What every processor of the architecture has (SSE2 on x86-64, NEON on AArch64).
    Portable,
    /// The same instructions, with values laid out as for vectors of sixteen: slow, never chosen, and there so that tests
    /// cover that layout on every processor.
    Portable16,
    /// AVX2 and FMA: eight float32 a vector.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F): sixteen float32 a vector, and 32 of them.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same with AVX512-BF16: products of bfloat16 pairs are one instruction, where the other sets need several.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

impl Isa {
    /// The sets of this processor that may be chosen, the slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut sets = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            sets.push(Self::Avx2);
            if std::is_x86_feature_detected!("avx512f") {
                sets.push(Self::Avx512);
                if std::is_x86_feature_detected!("avx512bf16") {
                    sets.push(Self::Avx512Bf16);
                }
            }
        }
        sets
    }

    /// All that this processor can run: what tests go through.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut sets = Self::available();
        sets.insert(0, Self::Portable16);
        sets
    }

    /// The name by which [`VARIABLE`] forces it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Portable16 => "portable16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Float32 values a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Portable => Portable::<4>::LANES,
            Self::Portable16 => Portable::<16>::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 => Avx512::LANES,
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

    /// Runs a kernel with the vectors of this set.
    ///
    /// # Safety
    /// What the kernel asks for, for this set; the processor has the set, which [`Isa::all`] says.
    pub(crate) unsafe fn run<K: Kernel>(self, kernel: K) {
        match self {
            // SAFETY: the caller's.
            Self::Portable => unsafe { kernel.run::<Portable<4>>() },
            // SAFETY: the caller's.
            Self::Portable16 => unsafe { kernel.run::<Portable<16>>() },
            // SAFETY: the caller's: the processor has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::run_avx2(kernel) },
            // SAFETY: the caller's: the processor has AVX-512 F, AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Bf16 => unsafe { x86::run_avx512(kernel) },
        }
    }

    /// Runs a kernel over pairs of bfloat16 numbers with the vectors of this set.
    ///
    /// # Safety
    /// As [`Isa::run`].
    pub(crate) unsafe fn run_pairs<K: PairKernel>(self, kernel: K) {
        match self {
            // SAFETY: the caller's.
            Self::Portable => unsafe { kernel.run::<Portable<4>>() },
            // SAFETY: the caller's.
            Self::Portable16 => unsafe { kernel.run::<Portable<16>>() },
            // SAFETY: the caller's: the processor has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::run_pairs_avx2(kernel) },
            // SAFETY: the caller's: the processor has AVX-512 F, AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::run_pairs_avx512(kernel) },
            // SAFETY: the caller's: the processor has AVX-512 F, AVX512-BF16, AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => unsafe { x86::run_pairs_avx512_bf16(kernel) },
        }
    }

    /// Whether products of bfloat16 numbers are instructions of this set; elsewhere they are imitated, at less than the speed of float32.
    #[must_use]
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Self::Avx512Bf16;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// A loop that is written over vectors. `run` and all that it calls must be `#[inline(always)]`: only so is it compiled
/// with the instructions of the set.
pub(crate) trait Kernel {
    /// Does the work.
    ///
    /// # Safety
    /// The processor has the instructions of `V`; and what the kernel says.
    unsafe fn run<V: Vector>(self);
}

/// As [`Kernel`], over vectors whose lanes may hold pairs of bfloat16 numbers.
pub(crate) trait PairKernel {
    /// Does the work.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn run<V: PairVector>(self);
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
            ((0..16).map(|i| i as f32 - 3.0).collect(), (0..16).map(|i| 2.0 + i as f32).collect());
        let mut out = [0.0f32; 16];
        // SAFETY: the vectors are those of sets that `available` has; the slices hold sixteen values.
        unsafe {
            let v = V::splat(0.5).add_product(V::load(a.as_ptr()), V::load(b.as_ptr())).add(V::splat(1.0));
            v.clamp(V::splat(-4.0), V::splat(9.0)).store(out.as_mut_ptr());
        }
        for i in 0..V::LANES {
            assert_eq!(out[i], (0.5 + a[i] * b[i] + 1.0).clamp(-4.0, 9.0));
        }
        // SAFETY: as above.
        unsafe { V::load(a.as_ptr()).sub(V::load(b.as_ptr())).store(out.as_mut_ptr()) };
        assert!(out[..V::LANES].iter().all(|&v| v == -5.0));
        // SAFETY: as above.
        unsafe { V::load(a.as_ptr()).mul(V::load(b.as_ptr())).store(out.as_mut_ptr()) };
        assert!((0..V::LANES).all(|i| out[i] == a[i] * b[i]));
        // SAFETY: as above.
        unsafe { V::load(a.as_ptr()).max(V::splat(0.5)).store(out.as_mut_ptr()) };
        assert!((0..V::LANES).all(|i| out[i] == a[i].max(0.5)));
        // SAFETY: as above.
        unsafe { V::splat(f32::NAN).clamp(V::splat(0.0), V::splat(6.0)).store(out.as_mut_ptr()) };
        assert!(out[0].is_nan(), "a NaN must not be hidden");
    }

    #[test]
    fn vectors_do_what_they_say() {
        check::<Portable<4>>();
        check::<Portable<16>>();
        #[cfg(target_arch = "x86_64")]
        if Isa::available().contains(&Isa::Avx2) {
            check::<Avx2>();
        }
        #[cfg(target_arch = "x86_64")]
        if Isa::available().contains(&Isa::Avx512) {
            check::<Avx512>();
        }
    }
}
