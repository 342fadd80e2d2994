//! Changed copies of good pictures: what the next day's good pictures may look like.
//!
//! Copies lie in the feature cache beside the pictures; heads train on them and banks remember their patches, in the fold of the picture that
//! they are copies of. Thresholds and scales come from the pictures alone.

use image::{ImageBuffer, Rgb, RgbImage};
use imageproc::filter::gaussian_blur_f32;
use imageproc::geometric_transformations::{Border, Interpolation, Projection, warp};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::image::Rgb8;
use crate::settings::Augment;
use crate::{Error, Result};

/// How much of each change there is at most; drawn evenly in between.
struct Strength {
    /// Rotation either way, in degrees.
    rotation: f32,
    /// Shift either way, as a share of the side.
    shift: f32,
    /// Brightness and contrast either way, as a share.
    light: f32,
    /// Gamma from `1 / (1 + gamma)` to `1 + gamma`.
    gamma: f32,
    /// Deviation of the blur, in thousandths of the longer side.
    blur: f32,
    /// Deviation of the noise, in grey levels of 255.
    noise: f32,
}

impl Augment {
    /// Copies of each picture.
    #[must_use]
    pub fn copies(self) -> usize {
        match self {
            Self::Light => 1,
            Self::Strong | Self::Rotations => 3,
        }
    }

    /// By what the steps of a training are multiplied, so that the larger set is learned as well: the square root of how many times it is as large.
    #[must_use]
    pub fn length_factor(self) -> f64 {
        (1.0 + self.copies() as f64).sqrt()
    }

    fn strength(self) -> Strength {
        let light = Strength { rotation: 2.0, shift: 0.015, light: 0.08, gamma: 0.08, blur: 1.2, noise: 0.0 };
        match self {
            Self::Light => light,
            Self::Strong => {
                Strength { rotation: 6.0, shift: 0.04, light: 0.2, gamma: 0.2, blur: 2.5, noise: 4.0 }
            }
            Self::Rotations => Strength { rotation: 180.0, ..light },
        }
    }
}

/// A changed copy of a picture, of its size; where nothing of the picture comes to lie, its edge goes on.
///
/// # Errors
/// A picture whose bytes do not fit its size.
pub(super) fn changed(picture: &Rgb8, augment: Augment, rng: &mut ChaCha8Rng) -> Result<Rgb8> {
    picture.check()?;
    let s = augment.strength();
    let mut evenly = |most: f32| if most > 0.0 { rng.random_range(-most..=most) } else { 0.0 };
    let (width, height) = (picture.width as f32, picture.height as f32);
    let angle = evenly(s.rotation).to_radians();
    let (dx, dy) = (evenly(s.shift) * width, evenly(s.shift) * height);
    let (brightness, contrast) = (1.0 + evenly(s.light), 1.0 + evenly(s.light));
    let gamma = (1.0 + s.gamma).powf(evenly(1.0));
    let blur = evenly(1.0).abs() * s.blur / 1000.0 * width.max(height);

    let side = |n: usize| u32::try_from(n).map_err(|_| Error::limits("a picture is too large to be changed"));
    let image: Option<RgbImage> =
        ImageBuffer::from_raw(side(picture.width)?, side(picture.height)?, picture.data.clone());
    let image = image.ok_or_else(|| Error::caller("a picture's bytes do not fit its size"))?;
    let (cx, cy) = (width / 2.0, height / 2.0);
    let motion =
        Projection::translate(cx + dx, cy + dy) * Projection::rotate(angle) * Projection::translate(-cx, -cy);
    let mut image = warp::<Rgb<u8>>(&image, motion, Interpolation::Bilinear, Border::Replicate);
    // Below that it changes nothing.
    if blur > 0.2 {
        image = gaussian_blur_f32(&image, blur);
    }
    let mean = picture.data.iter().map(|&v| u64::from(v)).sum::<u64>() as f32 / picture.data.len() as f32;
    let levels: Vec<f32> = (0..256u16)
        .map(|level| {
            let level = ((f32::from(level) - mean) * contrast + mean) * brightness;
            255.0 * (level / 255.0).clamp(0.0, 1.0).powf(gamma)
        })
        .collect();
    let mut data = image.into_raw();
    if s.noise > 0.0 {
        let deviation = rng.random_range(0.0..s.noise);
        let noise = Normal::new(0.0, deviation).map_err(|_| Error::caller("noise without a deviation"))?;
        // Decimal levels as for the rest; a cast of a float saturates.
        data.iter_mut().for_each(|v| *v = (levels[usize::from(*v)] + noise.sample(rng)).round() as u8);
    } else {
        data.iter_mut().for_each(|v| *v = levels[usize::from(*v)].round() as u8);
    }
    Ok(Rgb8 { width: picture.width, height: picture.height, data })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn picture() -> Rgb8 {
        // A bright bar left of the middle, on a ramp.
        let at = |x: usize, y: usize| {
            if (20..24).contains(&x) && (10..50).contains(&y) { 230 } else { 60 + y as u8 }
        };
        let data = (0..60 * 80).flat_map(|i| [at(i % 80, i / 80); 3]).collect();
        Rgb8 { width: 80, height: 60, data }
    }

    #[test]
    fn copies_differ_by_what_their_kind_allows_and_follow_the_seed() {
        let of = |augment, seed| changed(&picture(), augment, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        let distance = |a: &Rgb8, b: &Rgb8| {
            let sum: u64 = a.data.iter().zip(&b.data).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            sum as f64 / a.data.len() as f64
        };
        let mean = |augment| (0..20).map(|seed| distance(&of(augment, seed), &picture())).sum::<f64>() / 20.0;
        let (light, strong) = (mean(Augment::Light), mean(Augment::Strong));
        assert!(light > 1.0 && strong > 1.5 * light, "{light}, {strong}");
        assert_eq!(of(Augment::Strong, 3), of(Augment::Strong, 3));
        assert_ne!(of(Augment::Strong, 3), of(Augment::Strong, 4));
        // The brightest column of a light copy stays near the bar; under any rotation it does not.
        let brightest = |p: &Rgb8| {
            let column = |x: &usize| (10..50).map(|y| u32::from(p.data[3 * (y * 80 + x)])).sum::<u32>();
            (0..80).max_by_key(column).unwrap()
        };
        let places = |augment| (0..20).map(|seed| brightest(&of(augment, seed))).collect::<Vec<_>>();
        assert!(places(Augment::Light).iter().all(|x| (16..28).contains(x)), "{:?}", places(Augment::Light));
        assert!(places(Augment::Rotations).iter().any(|x| *x > 40), "{:?}", places(Augment::Rotations));
    }
}
