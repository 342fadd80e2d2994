//! Finds the region of interest where parts lie on a plain background: the union of their silhouettes, holes filled, widened.
//!
//! Nothing is guessed: where the part does not stand out in nearly every picture, or may lie anywhere, there is no region.

use std::collections::VecDeque;
use std::path::PathBuf;

use rayon::prelude::*;

use super::{AUTO, Roi};
use crate::doctor::part::{PART_SIDE, silhouette};
use crate::image::{DecodeOptions, read_rgb};
use crate::preprocess::{Fit, Geometry, InputSize};
use crate::train::observer::Observer;
use crate::words::percent;
use crate::{Error, ErrorKind, Result};

/// Most pictures that are looked at, evenly over the list.
const MOST: usize = 400;
/// The part has to be found in this share of the pictures.
const FOUND: f64 = 0.9;
/// The union is widened by this share of the picture's longer side.
const MARGIN: f64 = 0.05;
/// A region that keeps more than this share of the picture leaves out nothing worth the name.
const MOST_KEPT: f64 = 0.95;

/// A region that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The region; its source is `auto`.
    pub roi: Roi,
    /// Pictures in which the part was found.
    pub found: usize,
    /// Pictures that were looked at.
    pub pictures: usize,
}

/// Looks for the part in the pictures to learn from. Pictures that cannot be read are passed over.
///
/// # Errors
/// `Caller` where the part does not stand out from a plain background or moves over nearly the whole picture; an interrupt.
pub fn find(pictures: &[PathBuf], decode: &DecodeOptions, observer: &dyn Observer) -> Result<Found> {
    let chosen: Vec<&PathBuf> = pictures.iter().step_by(pictures.len().div_ceil(MOST).max(1)).collect();
    let readable = chosen.iter().find_map(|p| read_rgb(p, decode).ok());
    let Some(first) = readable else {
        return Err(Error::input(format!("none of the {} pictures could be read", chosen.len())));
    };
    let longest = first.width.max(first.height);
    let side = |n: usize| ((n * PART_SIDE + longest / 2) / longest).max(16);
    let size = InputSize { height: side(first.height), width: side(first.width) };
    let small = Geometry { fit: Fit::Stretch, size };
    observer.begin("looking for the part", chosen.len() as u64, "pictures");
    let look = |path: &&PathBuf| {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped while looking for the part"));
        }
        let seen = read_rgb(path, decode).ok().map(|p| Ok(silhouette(&small.apply(&p)?.0)));
        observer.advance(1);
        seen.transpose()
    };
    let seen: Vec<Option<Option<Vec<bool>>>> = chosen.par_iter().map(look).collect::<Result<_>>()?;
    observer.end();

    let readable = seen.iter().flatten().count();
    let parts: Vec<&Vec<bool>> = seen.iter().flatten().flatten().collect();
    if (parts.len() as f64) < FOUND * readable as f64 {
        let without = chosen.iter().zip(&seen).find(|(_, s)| matches!(s, Some(None)));
        let example = without.map(|(p, _)| format!(", not in `{}`", p.display())).unwrap_or_default();
        return Err(Error::caller(format!(
            "`--roi auto`: expected parts that stand out from a plain background, found one in {} of {readable} pictures{example}",
            parts.len()
        ))
        .with_hint("draw a mask on one of the pictures, white where parts are to be looked at: `--roi MASK.png`"));
    }
    let union = (0..size.height * size.width).map(|i| parts.iter().any(|p| p[i])).collect::<Vec<_>>();
    let radius = (MARGIN * size.height.max(size.width) as f64).round() as usize;
    let roi = Roi::new(size, widened(&without_holes(&union, size), size, radius), AUTO)?;
    if roi.share() > MOST_KEPT {
        return Err(Error::caller(format!(
            "`--roi auto`: the parts lie all over the pictures: a region would keep {} of them and leave out nothing worth it",
            percent(roi.share())
        ))
        .with_hint("train without `--roi`"));
    }
    Ok(Found { roi, found: parts.len(), pictures: readable })
}

/// What cannot be reached from the picture's border without crossing `values`, and they themselves.
fn without_holes(values: &[bool], size: InputSize) -> Vec<bool> {
    let (w, h) = (size.width, size.height);
    let mut outside = vec![false; w * h];
    let on_border = |&i: &usize| {
        let (x, y) = (i % w, i / w);
        x == 0 || x == w - 1 || y == 0 || y == h - 1
    };
    let mut waiting: VecDeque<usize> = (0..w * h).filter(on_border).collect();
    while let Some(i) = waiting.pop_front() {
        if values[i] || std::mem::replace(&mut outside[i], true) {
            continue;
        }
        let (x, y) = (i % w, i / w);
        waiting.extend((x > 0).then(|| i - 1));
        waiting.extend((x + 1 < w).then(|| i + 1));
        waiting.extend((y > 0).then(|| i - w));
        waiting.extend((y + 1 < h).then(|| i + w));
    }
    outside.iter().map(|o| !o).collect()
}

/// What is within `radius` pixels of a true value.
fn widened(values: &[bool], size: InputSize, radius: usize) -> Vec<bool> {
    let (w, h, r) = (size.width, size.height, radius);
    let mut out = vec![false; w * h];
    for i in (0..w * h).filter(|&i| values[i]) {
        let (x, y) = (i % w, i / w);
        for v in y.saturating_sub(r)..(y + r + 1).min(h) {
            let reach = ((r * r - y.abs_diff(v).pow(2)) as f64).sqrt() as usize;
            out[v * w + x.saturating_sub(reach)..v * w + (x + reach + 1).min(w)].fill(true);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rgb8;
    use crate::train::observer::Silent;

    fn written(folder: &std::path::Path, name: &str, pixel: impl Fn(usize, usize) -> u8) -> PathBuf {
        let data = (0..160 * 120).flat_map(|i| [pixel(i % 160, i / 160); 3]).collect();
        let path = folder.join(name);
        Rgb8 { width: 160, height: 120, data }.write_png(&path).unwrap();
        path
    }

    #[test]
    fn a_ring_that_moves_is_found_with_its_hole() {
        let folder = tempfile::tempdir().unwrap();
        let ring = |cx: usize| {
            move |x: usize, y: usize| {
                let d = (x.abs_diff(cx).pow(2) + y.abs_diff(60).pow(2)) as f64;
                if (12.0..30.0).contains(&d.sqrt()) { 220 } else { 40 }
            }
        };
        let pictures: Vec<PathBuf> =
            (0..9).map(|i| written(folder.path(), &format!("{i}.png"), ring(60 + 4 * i))).collect();
        let found = find(&pictures, &DecodeOptions::default(), &Silent).unwrap();
        assert_eq!((found.found, found.pictures, found.roi.source()), (9, 9, "auto"));
        let inside = found.roi.at(InputSize { height: 120, width: 160 });
        let at = |x: usize, y: usize| inside[y * 160 + x];
        assert!(at(60, 60) && at(92, 60), "the holes");
        assert!(at(25, 60) && at(127, 60), "a margin around the first and the last");
        assert!(!at(5, 60) && !at(150, 60) && !at(76, 5));
        // Two discs of radius 30 + 8, 32 apart, out of 19,200 pixels.
        assert!((found.roi.share() - 0.362).abs() < 0.03, "{}", found.roi.share());
    }

    #[test]
    fn texture_and_parts_all_over_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let texture: Vec<PathBuf> = (0..4)
            .map(|i| {
                written(folder.path(), &format!("t{i}.png"), |x, y| ((x * 7919 + y * 104_729) >> 3) as u8)
            })
            .collect();
        let refused = |pictures: &[PathBuf]| {
            find(pictures, &DecodeOptions::default(), &Silent).unwrap_err().to_string()
        };
        let said = refused(&texture);
        assert!(said.contains("found one in 0 of 4 pictures, not in `") && said.contains("t0.png"), "{said}");
        let squares: Vec<PathBuf> = (0..24)
            .map(|i| {
                let (cx, cy) = (20 + i % 6 * 24, 20 + i / 6 * 27);
                let square = move |x: usize, y: usize| {
                    if x.abs_diff(cx) < 14 && y.abs_diff(cy) < 14 { 230 } else { 30 }
                };
                written(folder.path(), &format!("s{i}.png"), square)
            })
            .collect();
        assert!(refused(&squares).contains("leave out nothing worth it"), "{}", refused(&squares));
    }

    #[test]
    fn widening_agrees_with_its_definition() {
        let size = InputSize { height: 11, width: 17 };
        let values: Vec<bool> = (0..187).map(|i| i == 0 || i == 90 || i == 186).collect();
        for radius in [0, 1, 3, 20] {
            let near = |i: usize| {
                (0..187).filter(|&j| values[j]).any(|j| {
                    let d2 = (i % 17).abs_diff(j % 17).pow(2) + (i / 17).abs_diff(j / 17).pow(2);
                    d2 <= radius * radius
                })
            };
            assert_eq!(widened(&values, size, radius), (0..187).map(near).collect::<Vec<_>>(), "{radius}");
        }
    }
}
