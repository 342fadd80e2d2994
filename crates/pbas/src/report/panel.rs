//! One panel of a heatmap: the picture, its overlay with a score map, its overlay with a defect mask.

use super::heatmap::ColourScale;
use crate::image::{DefectMask, Rgb8};
use crate::preprocess::InputSize;
use crate::roi::Roi;
use crate::score::ScoreMap;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

/// Longest side of a panel in pixels.
pub(super) const LONGEST: usize = 640;
/// Pictures whose longest side is below this are enlarged.
pub(super) const TINY: usize = 128;

/// Opacity of the overlay at the top of the scale: the part stays visible below.
const MOST_OPAQUE: f32 = 0.8;
/// Tint and outline of the defect mask: a colour that neither metal nor the overlay has.
const MASK_COLOUR: [u8; 3] = [0, 220, 255];
const MASK_TINT: f32 = 0.3;
/// How much of what lies outside a region of interest is hidden.
const OUTSIDE_SHADE: f32 = 0.65;
/// Shown in place of a picture without pixels.
const BLANK: [u8; 3] = [64; 3];

/// The picture at the size of a panel: large ones reduced to [`LONGEST`], tiny ones enlarged by a whole factor
/// (pixels stay squares). An inconsistent picture becomes one blank pixel, enlarged.
pub(super) fn base(picture: &Rgb8) -> Rgb8 {
    base_within(picture, LONGEST)
}

/// As [`base`], with large pictures reduced to another size.
pub(super) fn base_within(picture: &Rgb8, most: usize) -> Rgb8 {
    let (w, h) = (picture.width, picture.height);
    let sound = w > 0 && h > 0 && w.checked_mul(h).and_then(|n| n.checked_mul(3)) == Some(picture.data.len());
    if !sound {
        return enlarge(&Rgb8 { width: 1, height: 1, data: BLANK.to_vec() }, TINY);
    }
    let longest = w.max(h);
    if longest > most {
        let side = |n: usize| ((n * most + longest / 2) / longest).max(1);
        return reduce(picture, side(w), side(h)).unwrap_or_else(|| picture.clone());
    }
    if longest < TINY { enlarge(picture, TINY.div_ceil(longest)) } else { picture.clone() }
}

fn enlarge(picture: &Rgb8, factor: usize) -> Rgb8 {
    let (width, height) = (picture.width * factor, picture.height * factor);
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let at = 3 * ((y / factor) * picture.width + x / factor);
            data.extend_from_slice(&picture.data[at..at + 3]);
        }
    }
    Rgb8 { width, height, data }
}

fn reduce(picture: &Rgb8, width: usize, height: usize) -> Option<Rgb8> {
    let pixels: Vec<U8x3> = picture.data.chunks_exact(3).map(|p| U8x3::new([p[0], p[1], p[2]])).collect();
    let pixels = resample(&pixels, [picture.width, picture.height], [width, height])?;
    Some(Rgb8 { width, height, data: pixels.iter().flat_map(|p| p.0).collect() })
}

/// Bilinear with half-pixel centres; where it reduces, the filter widens so that no pixel is passed over.
fn resample<P: PixelTrait>(pixels: &[P], from: [usize; 2], to: [usize; 2]) -> Option<Vec<P>> {
    let side = |n: usize| u32::try_from(n).ok();
    let source = TypedImageRef::new(side(from[0])?, side(from[1])?, pixels).ok()?;
    let mut target = TypedImage::<P>::new(side(to[0])?, side(to[1])?);
    let bilinear = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize_typed(&source, &mut target, &bilinear).ok()?;
    Some(target.pixels().to_vec())
}

/// Draws the score map over the panel: nothing at the low end, more colour and less of the part the higher.
/// A map whose size and length disagree is not drawn.
pub(super) fn overlay(panel: &Rgb8, map: &ScoreMap, scale: ColourScale) -> Rgb8 {
    let mut shown = panel.clone();
    let (w, h) = (map.width, map.height);
    if w == 0 || h == 0 || w.checked_mul(h) != Some(map.values.len()) {
        return shown;
    }
    // One infinite or missing score would spread through the filter.
    let finite = |v: f32| match v {
        v if v.is_finite() => v,
        f32::INFINITY => scale.high,
        _ => scale.low,
    };
    let scores: Vec<F32> = map.values.iter().map(|&v| F32::new(finite(v))).collect();
    let Some(scores) = resample(&scores, [w, h], [panel.width, panel.height]) else { return shown };
    for (pixel, score) in shown.data.chunks_exact_mut(3).zip(&scores) {
        let place = scale.position(score.0);
        blend(pixel, colour(place), opacity(place));
    }
    shown
}

/// Darkens what lies outside a region of interest.
pub(super) fn darken_outside(panel: &mut Rgb8, roi: &Roi) {
    let inside = roi.at(InputSize { height: panel.height, width: panel.width });
    for (pixel, _) in panel.data.chunks_exact_mut(3).zip(inside).filter(|(_, inside)| !inside) {
        blend(pixel, [0; 3], OUTSIDE_SHADE);
    }
}

/// The colour at a place (0..1) on the scale. The dark quarter of the gradient is left out: a dark tint over a
/// picture would look like a shadow of the part.
pub(super) fn colour(place: f32) -> [u8; 3] {
    let c = colorous::INFERNO.eval_continuous(f64::from(0.25 + 0.75 * place));
    [c.r, c.g, c.b]
}

/// How much of the part the overlay hides at a place (0..1) on the scale: 0 at the low end, rising fast at first
/// so that a weak defect shows.
pub(super) fn opacity(place: f32) -> f32 {
    MOST_OPAQUE * place * (2.0 - place)
}

/// Draws the defect mask over the panel: a tint inside and a line just outside, so that a thin defect stays
/// visible. A panel pixel belongs to the mask if any mask pixel falls into it. An inconsistent mask is not drawn.
pub(super) fn outline(panel: &Rgb8, mask: &DefectMask) -> Rgb8 {
    let mut shown = panel.clone();
    let (w, h) = (panel.width, panel.height);
    let (mw, mh) = (mask.width, mask.height);
    if mw == 0 || mh == 0 || mw.checked_mul(mh) != Some(mask.data.len()) {
        return shown;
    }
    // The mask pixels that panel pixel `i` of `n` covers, at least one.
    let covered = |i: usize, n: usize, m: usize| (i * m / n)..((i + 1) * m).div_ceil(n);
    let mut inside = vec![false; w * h];
    for y in 0..h {
        for x in 0..w {
            let mut rows = covered(y, h, mh);
            inside[y * w + x] = rows.any(|my| covered(x, w, mw).any(|mx| mask.data[my * mw + mx] != 0));
        }
    }
    let touches = |x: usize, y: usize| {
        (y.saturating_sub(1)..(y + 2).min(h))
            .any(|ny| (x.saturating_sub(1)..(x + 2).min(w)).any(|nx| inside[ny * w + nx]))
    };
    for y in 0..h {
        for x in 0..w {
            let share = match inside[y * w + x] {
                true => MASK_TINT,
                false if touches(x, y) => 1.0,
                false => continue,
            };
            let at = 3 * (y * w + x);
            blend(&mut shown.data[at..at + 3], MASK_COLOUR, share);
        }
    }
    shown
}

/// Mixes `share` (0..1) of `colour` into a pixel.
pub(super) fn blend(pixel: &mut [u8], colour: [u8; 3], share: f32) {
    for (value, colour) in pixel.iter_mut().zip(colour) {
        *value = (f32::from(*value) * (1.0 - share) + f32::from(colour) * share).round() as u8;
    }
}
