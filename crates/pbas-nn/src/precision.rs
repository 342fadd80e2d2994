//! Numbers of products: float32, or bfloat16 with sums in float32.
//!
//! What bfloat16 products are, on every instruction set: both sides are rounded to bfloat16 ([`round`]), and a sum takes two
//! products at a time (`add_pair`), the second first, rounding after each. This is what `vdpbf16ps` does, bit for bit, as long as
//! neither a product nor a sum is below the smallest normal float32 (1.2e-38), which it takes for zero.

use std::fmt;
use std::str::FromStr;

use half::bf16;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

/// Numbers that products of a network are made with. Sums, biases, additions and the maps between steps are float32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Float32: 24 bits of mantissa.
    #[default]
    F32,
    /// Bfloat16: 8 bits of mantissa, float32's range. Twice as fast where the processor has instructions for it.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// The name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|p| p.name() == s).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("precision: expected f32 or bf16, found `{s}`"))
        })
    }
}

/// The nearest bfloat16 number; of two as near the one whose last bit is zero. What is no normal float32 becomes a zero of its sign, a
/// NaN stays one, and what is beyond the range becomes infinite.
#[inline(always)]
pub(crate) fn round(v: f32) -> bf16 {
    let bits = v.to_bits();
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let special = (bits >> 16) as u16 | 0x40;
    let zero = (bits >> 16) as u16 & 0x8000;
    let size = bits & 0x7fff_ffff;
    bf16::from_bits(if size > 0x7f80_0000 {
        special
    } else if size < 0x0080_0000 {
        zero
    } else {
        nearest
    })
}

/// `sum + a1 b1`, rounded, `+ a0 b0`, rounded: the slow twin of what vectors do.
#[cfg(test)]
pub(crate) fn add_pair(sum: f32, a: [bf16; 2], b: [bf16; 2]) -> f32 {
    (sum + a[1].to_f32() * b[1].to_f32()) + a[0].to_f32() * b[0].to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_to_even() {
        for (bits, expected) in [
            (0x3f80_8000_u32, 0x3f80), // Half way: to even.
            (0x3f81_8000, 0x3f82),
            (0x3f80_8001, 0x3f81),
            (0x7f7f_ffff, 0x7f80),
            (0x7f80_0000, 0x7f80),
            (0x7f80_0001, 0x7fc0),
            (0xffc0_0000, 0xffc0),
            (0x8000_0000, 0x8000),
            (0x0080_0000, 0x0080),
            (0x007f_ffff, 0x0000),
            (0x8000_0001, 0x8000),
        ] {
            assert_eq!(round(f32::from_bits(bits)).to_bits(), expected, "{bits:08x}");
        }
        for i in 0..200_000_u32 {
            let v = f32::from_bits(0x0080_0000 + i.wrapping_mul(2_654_435_761) % 0x7f00_0000);
            assert_eq!(round(v).to_bits(), bf16::from_f32(v).to_bits(), "{v}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for p in Precision::ALL {
            assert_eq!(p.to_string().parse::<Precision>().ok(), Some(p));
        }
        let message = "fp8".parse::<Precision>().unwrap_err().to_string();
        assert!(message.contains("f32 or bf16") && message.contains("`fp8`"), "{message}");
    }
}
