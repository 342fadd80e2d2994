//! Lens and sensor: defocus, vignetting, tone, noise.

use super::maths::{Draw, decay};
use super::scene::{Camera, SIDE};

/// Taps on each side of the defocus kernel.
const REACH: usize = 3;

impl Camera {
    /// Linear RGB to grey levels (0..255, not yet rounded), without noise.
    pub(super) fn develop(&self, radiance: &[[f32; 3]]) -> Vec<[f32; 3]> {
        let kernel = self.kernel();
        let rows = blur(radiance, &kernel, 1);
        let mut levels = blur(&rows, &kernel, SIDE);
        let half = SIDE as f32 / 2.0;
        for (i, pixel) in levels.iter_mut().enumerate() {
            let x = ((i % SIDE) as f32 + 0.5) / half - 1.0;
            let y = ((i / SIDE) as f32 + 0.5) / half - 1.0;
            let light = self.exposure * (1.0 - self.vignette * 0.5 * (x * x + y * y));
            for (value, white) in pixel.iter_mut().zip(self.white) {
                *value = tone(*value * light * white);
            }
        }
        levels
    }

    /// Rounds to bytes with sensor noise. In the square-root tone photon noise has the same size everywhere.
    pub(super) fn expose(&self, levels: &[[f32; 3]], draw: &mut Draw) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(levels.len() * 3);
        for pixel in levels {
            let common = draw.bell();
            for value in pixel {
                let noise = self.noise * (0.75 * common + 0.66 * draw.bell());
                bytes.push((value + noise + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
        bytes
    }

    fn kernel(&self) -> [f32; 2 * REACH + 1] {
        let mut kernel = [0.0; 2 * REACH + 1];
        for (i, weight) in kernel.iter_mut().enumerate() {
            let offset = i as f32 - REACH as f32;
            *weight = decay(offset * offset / (2.0 * self.blur * self.blur));
        }
        let sum: f32 = kernel.iter().sum();
        kernel.map(|w| w / sum)
    }
}

/// Weighted mean over neighbours `step` apart (1: along rows, SIDE: along columns); the border repeats.
fn blur(pixels: &[[f32; 3]], kernel: &[f32; 2 * REACH + 1], step: usize) -> Vec<[f32; 3]> {
    (0..pixels.len())
        .map(|i| {
            let at = if step == 1 { i % SIDE } else { i / SIDE };
            let base = i - at * step;
            let mut sum = [0.0; 3];
            for (k, weight) in kernel.iter().enumerate() {
                let neighbour = (at + k).saturating_sub(REACH).min(SIDE - 1);
                let pixel = pixels[base + neighbour * step];
                for c in 0..3 {
                    sum[c] += weight * pixel[c];
                }
            }
            sum
        })
        .collect()
}

/// Linear light to a grey level: a gamma of 2 (close to sRGB) with a soft shoulder instead of a hard clip.
fn tone(light: f32) -> f32 {
    const KNEE: f32 = 0.78;
    let v = light.max(0.0).sqrt();
    let soft = if v > KNEE { KNEE + (1.0 - KNEE) * (v - KNEE) / (v - KNEE + 1.0 - KNEE) } else { v };
    255.0 * soft
}
