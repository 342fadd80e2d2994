//! Arithmetic that gives the same bits on every platform. The standard `sin`, `exp` and `powi` may differ in
//! the last bit between systems, and one bit is enough to change a rounded pixel; sums, products, quotients,
//! `sqrt` and `floor` are exact by IEEE 754, so everything here is made of these.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers that depends on a seed and a stream number alone.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Uniform in [0, 1), a multiple of 2^-24 (so the conversion is exact).
    pub(super) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / 16_777_216.0
    }

    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    pub(super) fn flip(&mut self) -> bool {
        self.0.next_u32() & 1 == 1
    }

    pub(super) fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Bell-shaped, mean 0, variance 1, within +-3.5: the sum of four uniform numbers (no `ln`, no `cos`).
    pub(super) fn bell(&mut self) -> f32 {
        let bits = self.0.next_u64();
        let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
        (sum as f32 / 65_536.0 - 2.0) * 1.732_050_8
    }

    /// A direction, uniform on the circle.
    pub(super) fn direction(&mut self) -> [f32; 2] {
        let turns = self.unit();
        [cos_turns(turns), sin_turns(turns)]
    }
}

/// Sine of an angle in turns; error below 2e-4.
pub(super) fn sin_turns(turns: f32) -> f32 {
    let t = turns - (turns + 0.5).floor(); // -0.5..0.5
    let folded = if t > 0.25 {
        0.5 - t
    } else if t < -0.25 {
        -0.5 - t
    } else {
        t
    };
    let x = folded * std::f32::consts::TAU;
    let q = x * x;
    x * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0)))
}

/// Cosine of an angle in turns; error below 2e-4.
pub(super) fn cos_turns(turns: f32) -> f32 {
    sin_turns(turns + 0.25)
}

/// The angle of `(x, y)` in turns, 0..1; error below 1e-4 of a turn; 0 for the origin.
pub(super) fn angle_turns(x: f32, y: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    let longer = ax.max(ay);
    if longer == 0.0 {
        return 0.0;
    }
    let a = ax.min(ay) / longer;
    let s = a * a;
    // An odd polynomial of degree 7 for the arc tangent on 0..1, in radians.
    let mut angle =
        (((-0.046_496_475 * s + 0.159_314_22) * s - 0.327_622_76) * s * a + a) / std::f32::consts::TAU;
    if ay > ax {
        angle = 0.25 - angle;
    }
    if x < 0.0 {
        angle = 0.5 - angle;
    }
    if y < 0.0 {
        angle = 1.0 - angle;
    }
    angle - angle.floor()
}

/// About `exp(-x)` for `x >= 0`: `(1 - x/256)^256`, by squaring.
pub(super) fn decay(x: f32) -> f32 {
    let mut power = (1.0 - x / 256.0).max(0.0);
    for _ in 0..8 {
        power *= power;
    }
    power
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// `a` where `t` is 0, `b` where it is 1.
pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Smooth random fields over the plane: hashed lattice values, interpolated.
#[derive(Clone, Copy)]
pub(super) struct Grain(pub(super) u32);

impl Grain {
    /// The value at a lattice point, -1..1.
    pub(super) fn lattice(self, ix: i32, iy: i32) -> f32 {
        let mut h = self.0 ^ (ix as u32).wrapping_mul(0x9e37_79b1) ^ (iy as u32).wrapping_mul(0x85eb_ca77);
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
        h ^= h >> 15;
        (h >> 8) as f32 / 8_388_608.0 - 1.0
    }

    /// The value at a point, -1..1; one lattice cell is one unit.
    pub(super) fn at(self, x: f32, y: f32) -> f32 {
        self.around(x, y, 0)
    }

    /// As [`Grain::at`], but `y` runs around a circle of `cells` cells (0: a plane).
    pub(super) fn around(self, x: f32, y: f32, cells: i32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let (ix, iy) = (fx as i32, fy as i32);
        let row = |i: i32| if cells > 0 { i.rem_euclid(cells) } else { i };
        let (y0, y1) = (row(iy), row(iy + 1));
        let (u, v) = (smoothstep(0.0, 1.0, x - fx), smoothstep(0.0, 1.0, y - fy));
        let top = mix(self.lattice(ix, y0), self.lattice(ix + 1, y0), u);
        let bottom = mix(self.lattice(ix, y1), self.lattice(ix + 1, y1), u);
        mix(top, bottom, v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_in_for_the_platforms_functions() {
        for i in -400..400 {
            let t = i as f32 / 173.0;
            let exact = (f64::from(t) * std::f64::consts::TAU).sin() as f32;
            assert!((sin_turns(t) - exact).abs() < 2e-4, "sine of {t} turns: {} not {exact}", sin_turns(t));
        }
        for i in 0..360 {
            let t = (i as f32 + 0.5) / 360.0;
            let (s, c) = (f64::from(t) * std::f64::consts::TAU).sin_cos();
            let found = angle_turns(c as f32 * 7.0, s as f32 * 7.0);
            assert!((found - t).abs() < 1e-3, "angle {t}: {found}");
        }
        for i in 0..60 {
            let x = i as f32 / 10.0;
            assert!((decay(x) - (-x).exp()).abs() < 3e-3, "decay of {x}: {}", decay(x));
        }
    }

    #[test]
    fn bell_has_mean_0_and_variance_1() {
        let mut draw = Draw::new(3, 0);
        let (mut sum, mut squares) = (0.0f64, 0.0f64);
        for _ in 0..40_000 {
            let v = f64::from(draw.bell());
            sum += v;
            squares += v * v;
        }
        assert!((sum / 4e4).abs() < 0.02 && (squares / 4e4 - 1.0).abs() < 0.03, "{sum} {squares}");
    }

    #[test]
    fn grain_closes_around_the_circle_and_stays_in_range() {
        let grain = Grain(9);
        for i in 0..50 {
            let x = i as f32 * 0.37;
            assert_eq!(grain.around(x, 0.25, 12), grain.around(x, 12.25, 12));
            assert!(grain.at(x, 1.0 - x).abs() <= 1.0);
        }
    }
}
