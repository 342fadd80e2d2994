//! Where the part lies in a picture, if it stands out from a plain background.
//!
//! The background's colour is the median of the picture's border; what differs from it (beyond Otsu's threshold) is the part.
//! Centre, size and turn are the moments of its silhouette. Where the border is not plain, or the part reaches it, nothing is
//! said: a guess would be worse than none.

use image::{GrayImage, Luma};
use imageproc::contrast::otsu_level;
use imageproc::region_labelling::{Connectivity, connected_components};
use serde::Serialize;

use crate::image::Rgb8;

/// Longest side of the picture in which the part is looked for.
pub const PART_SIDE: usize = 128;
/// Width of the border, in pixels of that picture.
const BORDER: usize = 2;
/// Share of the border that may belong to the part.
const MOST_OF_BORDER: f64 = 0.1;
/// Share of the picture that a part may fill.
const AREA: std::ops::RangeInclusive<f64> = 0.005..=0.85;
/// Grey levels by which a part has to differ from the background, at least.
const LEAST_CONTRAST: f64 = 12.0;
/// The part's mean difference from the background is at least so many times the background's own.
const LEAST_SEPARATION: f64 = 4.0;
/// Pieces below this share of the largest one are dirt.
const LEAST_PIECE: f64 = 0.05;
/// A part has a direction if it is so many times as long as wide.
const LEAST_ELONGATION: f64 = 1.15;

/// The part's place in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Part {
    /// Centre of gravity in shares of the picture's width and height, 0 to 1.
    pub x: f64,
    /// See `x`.
    pub y: f64,
    /// Share of the picture that it fills.
    pub area: f64,
    /// Direction of its long axis in degrees, 0 to 180 (a part turned by 180 degrees looks the same here); `None` where
    /// it is about as wide as long.
    pub degrees: Option<f64>,
}

/// The silhouette: `picture.height * picture.width` values, `true` on the part; `None` where the part does not stand out
/// from a plain background.
///
/// Meant for pictures brought to [`PART_SIDE`]; the work grows with the number of pixels.
#[must_use]
pub fn silhouette(picture: &Rgb8) -> Option<Vec<bool>> {
    let (w, h) = (picture.width, picture.height);
    if w < 16 || h < 16 {
        return None;
    }
    let on_border = |i: usize| {
        let (x, y) = (i % w, i / w);
        x < BORDER || y < BORDER || x >= w - BORDER || y >= h - BORDER
    };
    let border: Vec<usize> = (0..w * h).filter(|&i| on_border(i)).collect();
    let mut background = [0u8; 3];
    for (c, level) in background.iter_mut().enumerate() {
        let mut levels: Vec<u8> = border.iter().map(|&i| picture.data[3 * i + c]).collect();
        let middle = levels.len() / 2;
        *level = *levels.select_nth_unstable(middle).1;
    }
    let difference = |p: &[u8]| p.iter().zip(background).map(|(&a, b)| a.abs_diff(b)).max().unwrap_or(0);
    let away: Vec<u8> = picture.data.chunks_exact(3).map(difference).collect();
    let size = (u32::try_from(w).ok()?, u32::try_from(h).ok()?);
    let level = otsu_level(&GrayImage::from_raw(size.0, size.1, away.clone())?);
    let is_part = |i: usize| away[i] > level;

    let mean = |of_part: bool| {
        let chosen: Vec<f64> =
            (0..w * h).filter(|&i| is_part(i) == of_part).map(|i| f64::from(away[i])).collect();
        chosen.iter().sum::<f64>() / chosen.len().max(1) as f64
    };
    let (part, ground) = (mean(true), mean(false));
    let touching = border.iter().filter(|&&i| is_part(i)).count() as f64 / border.len() as f64;
    if part < LEAST_CONTRAST || part < LEAST_SEPARATION * ground || touching > MOST_OF_BORDER {
        return None;
    }
    // Labels need more pixels than components: one column of background more.
    let mut canvas = GrayImage::new(size.0 + 1, size.1);
    (0..w * h).filter(|&i| is_part(i)).for_each(|i| {
        canvas.put_pixel((i % w) as u32, (i / w) as u32, Luma([1]));
    });
    let labels = connected_components(&canvas, Connectivity::Eight, Luma([0]));
    let label = |i: usize| labels.get_pixel((i % w) as u32, (i / w) as u32).0[0] as usize;
    let mut counts = vec![0usize; w * h + 1];
    (0..w * h).for_each(|i| counts[label(i)] += 1);
    counts[0] = 0;
    let largest = *counts.iter().max()?;
    let kept: Vec<bool> =
        (0..w * h).map(|i| counts[label(i)] as f64 >= (LEAST_PIECE * largest as f64).max(1.0)).collect();
    let area = kept.iter().filter(|k| **k).count() as f64 / (w * h) as f64;
    AREA.contains(&area).then_some(kept)
}

impl Part {
    /// The part of a picture brought to [`PART_SIDE`]; `None` where [`silhouette`] finds none.
    #[must_use]
    pub fn find(picture: &Rgb8) -> Option<Self> {
        let (w, h) = (picture.width, picture.height);
        let kept = silhouette(picture)?;
        let points = || kept.iter().enumerate().filter(|(_, k)| **k).map(|(i, _)| (i % w, i / w));
        let n = points().count() as f64;
        let (sx, sy) = points().fold((0.0, 0.0), |(x, y), p| (x + p.0 as f64 + 0.5, y + p.1 as f64 + 0.5));
        let (cx, cy) = (sx / n, sy / n);
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for (x, y) in points() {
            let (dx, dy) = (x as f64 + 0.5 - cx, y as f64 + 0.5 - cy);
            (xx, yy, xy) = (xx + dx * dx / n, yy + dy * dy / n, xy + dx * dy / n);
        }
        // Lengths of the ellipse with the same moments go by the roots of the eigenvalues.
        let (half, root) = ((xx + yy) / 2.0, ((xx - yy).powi(2) / 4.0 + xy * xy).sqrt());
        let elongation = ((half + root) / (half - root).max(1e-9)).sqrt();
        let turn = 0.5 * (2.0 * xy).atan2(xx - yy);
        Some(Self {
            x: cx / w as f64,
            y: cy / h as f64,
            area: n / (w * h) as f64,
            degrees: (elongation >= LEAST_ELONGATION).then(|| turn.to_degrees().rem_euclid(180.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bar of 60 x 16 pixels about (`cx`, `cy`), turned by `degrees`, on a plain ground.
    fn bar(cx: f64, cy: f64, degrees: f64) -> Rgb8 {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let mut data = Vec::new();
        for i in 0..128 * 96 {
            let (dx, dy) = ((i % 128) as f64 + 0.5 - cx, (i / 128) as f64 + 0.5 - cy);
            let inside = (dx * cos + dy * sin).abs() < 30.0 && (dy * cos - dx * sin).abs() < 8.0;
            let dirt = i == 500;
            let noise = (i * 7919 % 5) as u8;
            data.extend(if inside || dirt { [90, 60, 200] } else { [80 + noise, 82, 85] });
        }
        Rgb8 { width: 128, height: 96, data }
    }

    #[test]
    fn a_bar_is_found_where_it_was_drawn() {
        for (cx, cy, degrees) in
            [(64.0, 48.0, 0.0), (60.0, 50.0, 37.0), (70.0, 44.0, 90.0), (64.0, 48.0, 150.0)]
        {
            let part = Part::find(&bar(cx, cy, degrees)).expect("a bar on a plain ground");
            assert!((part.x * 128.0 - cx).abs() < 0.5 && (part.y * 96.0 - cy).abs() < 0.5, "{part:?}");
            let off = (part.degrees.unwrap() - degrees + 90.0).rem_euclid(180.0) - 90.0;
            assert!(off.abs() < 2.0, "{part:?} against {degrees}");
            assert!((part.area * 128.0 * 96.0 - 960.0).abs() < 40.0, "{part:?}");
        }
    }

    #[test]
    fn nothing_is_said_where_nothing_can_be() {
        assert_eq!(Part::find(&bar(5.0, 48.0, 90.0)), None, "it reaches the border along a good part of it");
        let plain = Rgb8 { width: 128, height: 96, data: vec![90; 128 * 96 * 3] };
        assert_eq!(Part::find(&plain), None);
        let texture = (0..128usize * 128).flat_map(|i| [((i * 2_654_435_761) >> 7) as u8; 3]).collect();
        assert_eq!(Part::find(&Rgb8 { width: 128, height: 128, data: texture }), None);
        // A disc has a place and no direction.
        let disc = (0..128 * 128i32).flat_map(|i| {
            let (dx, dy) = (i % 128 - 50, i / 128 - 64);
            [if dx * dx + dy * dy < 900 { 220 } else { 40 }; 3]
        });
        let part = Part::find(&Rgb8 { width: 128, height: 128, data: disc.collect() }).unwrap();
        assert_eq!(part.degrees, None);
        assert!((part.x - 50.5 / 128.0).abs() < 0.01);
    }
}
