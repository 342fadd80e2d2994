//! Region of interest: where in the picture parts are looked at. Outside it nothing scores and nothing trains.
//!
//! Before a picture is resized, what lies outside is painted with one colour, so that neither the resizing filter nor the
//! network sees it. The colour is the mean of the inside over the good pictures and is kept with the region: the same for every
//! picture, alone or among others. A patch position belongs to the region if at least half of its cell does ([`Positions`]).

mod auto;
mod positions;
mod stored;

pub use auto::{Found, find};
pub use positions::Positions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::image::{DecodeOptions, DefectMask, Rgb8, dimensions, read_rgb};
use crate::preprocess::{Geometry, InputSize};
use crate::{Error, Result};

/// From this grey level on a pixel of a mask is white.
const WHITE: u32 = 128;
/// Longest side that is kept; a larger mask is reduced to it.
const LONGEST: usize = 2048;
/// Proportions that differ by less than this are one: cameras and crops are a pixel off.
const SAME_PROPORTIONS: f64 = 0.02;
/// Good pictures from which the colour of the outside is taken.
const COLOUR_SAMPLE: usize = 32;
/// Source of a region that was found.
const AUTO: &str = "auto";
/// Colour of the outside before it is known.
const NEUTRAL: [u8; 3] = [128; 3];

/// A region of interest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "stored::Stored", into = "stored::Stored")]
pub struct Roi {
    size: InputSize,
    /// `[height, width]`, row-major.
    inside: Arc<[bool]>,
    fill: [u8; 3],
    source: String,
}

impl Roi {
    /// A region of `size`; `inside` holds `height * width` values, row-major; `source` says where it comes from (a file's name).
    /// Sides beyond 2,048 pixels are reduced to that.
    ///
    /// # Errors
    /// `Caller` where the values do not fit the size, or none of them is true.
    pub fn new(size: InputSize, inside: Vec<bool>, source: &str) -> Result<Self> {
        if size.height.checked_mul(size.width) != Some(inside.len()) {
            return Err(Error::caller(format!(
                "region of interest of {size}: expected one value a pixel, found {}",
                inside.len()
            )));
        }
        let empty = || {
            Error::caller(format!(
                "region of interest `{source}`: expected white pixels where parts are to be looked at, found none among {size}"
            ))
            .with_hint("white (a grey level of 128 or more) counts, black does not")
        };
        if !inside.contains(&true) {
            return Err(empty());
        }
        let longest = size.width.max(size.height);
        let (size, inside) = if longest > LONGEST {
            let side = |n: usize| ((n * LONGEST + longest / 2) / longest).max(1);
            let smaller = InputSize { height: side(size.height), width: side(size.width) };
            (smaller, sampled(size, &inside, smaller))
        } else {
            (size, inside)
        };
        if !inside.contains(&true) {
            return Err(empty()); // Specks that fall between the pixels that are kept.
        }
        Ok(Self { size, inside: inside.into(), fill: NEUTRAL, source: source.to_owned() })
    }

    /// Reads a mask: white (a mean of the colours of 128 or more) counts.
    ///
    /// # Errors
    /// A file that is not a readable picture, or has no white pixel.
    pub fn read(path: &Path, decode: &DecodeOptions) -> Result<Self> {
        let mask = read_rgb(path, decode).map_err(|e| e.context("cannot read the region of interest"))?;
        let white = |p: &[u8]| p.iter().map(|&v| u32::from(v)).sum::<u32>() >= 3 * WHITE;
        let inside = mask.data.chunks_exact(3).map(white).collect();
        let source =
            path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
        Self::new(InputSize { height: mask.height, width: mask.width }, inside, &source)
    }

    /// Its size in pixels; pictures of other sizes and the same proportions have it scaled.
    #[must_use]
    pub fn size(&self) -> InputSize {
        self.size
    }

    /// Where it comes from: a file's name, or `auto`.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Colour that the outside is painted with, R G B.
    #[must_use]
    pub fn fill_colour(&self) -> [u8; 3] {
        self.fill
    }

    /// Share of the picture that lies inside, above 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.inside.iter().filter(|i| **i).count() as f64 / self.inside.len() as f64
    }

    /// The region for a picture of `size`: `[height, width]`, row-major, by nearest neighbours.
    #[must_use]
    pub fn at(&self, size: InputSize) -> Vec<bool> {
        if size == self.size { self.inside.to_vec() } else { sampled(self.size, &self.inside, size) }
    }

    /// Holds the region against the pictures to learn from, and takes the colour of the outside from them: the mean of the inside
    /// over at most 32 of them. Pictures that cannot be read are passed over. Gives a warning where the region has to be scaled.
    ///
    /// # Errors
    /// A picture of other proportions, or colours that none of the pictures gives.
    pub fn prepare(&mut self, pictures: &[PathBuf], decode: &DecodeOptions) -> Result<Option<String>> {
        let sizes: Vec<Option<InputSize>> = pictures
            .par_iter()
            .map(|p| dimensions(p, decode).ok().map(|(width, height)| InputSize { height, width }))
            .collect();
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (path, size) in pictures.iter().zip(&sizes) {
            let Some(size) = size else { continue };
            self.check_proportions(*size).map_err(|e| e.context(format!("picture `{}`", path.display())))?;
            *counts.entry((size.width, size.height)).or_default() += 1;
        }
        let step = pictures.len().div_ceil(COLOUR_SAMPLE).max(1);
        let sample: Vec<&PathBuf> = pictures.iter().step_by(step).collect();
        let sums: Vec<[u64; 4]> = sample
            .into_par_iter()
            .filter_map(|path| read_rgb(path, decode).ok())
            .map(|picture| self.sum_of_inside(&picture))
            .collect();
        let total = sums.iter().fold([0u64; 4], |all, one| [0, 1, 2, 3].map(|c| all[c] + one[c]));
        if total[3] > 0 {
            self.fill = [0, 1, 2].map(|c| ((total[c] + total[3] / 2) / total[3]) as u8);
        }
        let usual =
            counts.iter().max_by_key(|(_, n)| **n).map(|(&(width, height), _)| InputSize { height, width });
        // One that was found has been looked for at a small size: nobody drew it for another.
        Ok(usual.filter(|&usual| usual != self.size && self.source != AUTO).map(|usual| {
            format!(
                "region of interest `{}` of {} pixels is resized to the pictures' {usual}",
                self.source, self.size
            )
        }))
    }

    /// Sums of the channels over the inside, and its pixels.
    fn sum_of_inside(&self, picture: &Rgb8) -> [u64; 4] {
        let inside = self.at(InputSize { height: picture.height, width: picture.width });
        let mut sums = [0; 4];
        for (p, _) in picture.data.chunks_exact(3).zip(inside).filter(|(_, i)| *i) {
            (0..3).for_each(|c| sums[c] += u64::from(p[c]));
            sums[3] += 1;
        }
        sums
    }

    /// The picture with its outside painted.
    ///
    /// # Errors
    /// `Caller` for a picture of other proportions.
    pub fn paint(&self, picture: &Rgb8) -> Result<Rgb8> {
        picture.check()?;
        let size = InputSize { height: picture.height, width: picture.width };
        self.check_proportions(size)?;
        let mut painted = picture.clone();
        for (pixel, _) in painted.data.chunks_exact_mut(3).zip(self.at(size)).filter(|(_, inside)| !inside) {
            pixel.copy_from_slice(&self.fill);
        }
        Ok(painted)
    }

    /// The region in a model's input, `[height, width]` of `geometry.size`, row-major; padding lies outside.
    ///
    /// # Errors
    /// As [`Geometry::apply_mask`].
    pub fn laid_out(&self, geometry: &Geometry) -> Result<Vec<bool>> {
        let data = self.inside.iter().map(|&i| u8::from(i)).collect();
        let mask = DefectMask { width: self.size.width, height: self.size.height, data };
        Ok(geometry.apply_mask(&mask)?.data.iter().map(|&v| v != 0).collect())
    }

    fn check_proportions(&self, picture: InputSize) -> Result<()> {
        let proportions = |s: InputSize| (s.width as f64 / s.height as f64).ln();
        if (proportions(picture) - proportions(self.size)).abs() <= SAME_PROPORTIONS {
            return Ok(());
        }
        Err(Error::caller(format!(
            "expected the proportions of the region of interest `{}`, {} pixels, found {picture}",
            self.source, self.size
        ))
        .with_hint("a region belongs to one view of one camera: draw it on one of its pictures"))
    }
}

/// Nearest neighbours: index `floor((i + 0.5) * from / to)`.
fn sampled(from: InputSize, values: &[bool], to: InputSize) -> Vec<bool> {
    let nearest = |i: usize, from: usize, to: usize| ((2 * i + 1) * from / (2 * to)).min(from - 1);
    let columns: Vec<usize> = (0..to.width).map(|x| nearest(x, from.width, to.width)).collect();
    let mut out = Vec::with_capacity(to.height * to.width);
    for y in 0..to.height {
        let row = &values[nearest(y, from.height, to.height) * from.width..][..from.width];
        out.extend(columns.iter().map(|&x| row[x]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Fit;

    fn half(width: usize, height: usize) -> Roi {
        let inside = (0..width * height).map(|i| i % width < width / 2).collect();
        Roi::new(InputSize { height, width }, inside, "half.png").unwrap()
    }

    #[test]
    fn the_outside_is_painted_whatever_the_size() {
        let mut roi = half(8, 4);
        roi.fill = [1, 2, 3];
        for (width, height) in [(8, 4), (16, 8), (4, 2), (100, 50)] {
            let picture = Rgb8 { width, height, data: vec![9; width * height * 3] };
            let painted = roi.paint(&picture).unwrap();
            for (i, p) in painted.data.chunks_exact(3).enumerate() {
                let expected: [u8; 3] = if i % width < width / 2 { [9; 3] } else { [1, 2, 3] };
                assert_eq!(p, expected, "{width} x {height}, pixel {i}");
            }
        }
        let other = Rgb8 { width: 8, height: 8, data: vec![9; 192] };
        let said = roi.paint(&other).unwrap_err().to_string();
        assert_eq!(
            said,
            "expected the proportions of the region of interest `half.png`, 8 x 4 pixels, found 8 x 8"
        );
    }

    #[test]
    fn a_large_mask_is_reduced_and_an_empty_one_refused() {
        let large = half(5000, 10);
        assert_eq!(large.size(), InputSize { height: 4, width: 2048 });
        assert!((large.share() - 0.5).abs() < 1e-9);
        let none = Roi::new(InputSize::square(3), vec![false; 9], "m.png").unwrap_err().to_string();
        assert!(none.contains("`m.png`: expected white pixels") && none.contains("3 x 3"), "{none}");
        assert!(Roi::new(InputSize::square(3), vec![true; 8], "m.png").is_err());
    }

    #[test]
    fn padding_lies_outside() {
        let all = Roi::new(InputSize { height: 2, width: 4 }, vec![true; 8], "all.png").unwrap();
        let geometry = Geometry { fit: Fit::Pad, size: InputSize::square(8) };
        let laid = all.laid_out(&geometry).unwrap();
        assert_eq!(laid.iter().filter(|i| **i).count(), 32);
        assert!(!laid[0] && laid[2 * 8]);
    }
}
