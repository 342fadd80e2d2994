//! Which positions of a view's grid count.

use std::borrow::Cow;

use super::Roi;
use crate::preprocess::Geometry;
use crate::{Error, Result};

/// Positions of a grid that lie in the region: all of them where there is no region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    all: usize,
    /// Row-major indices, ascending; `None` for all.
    kept: Option<Vec<u32>>,
}

impl Positions {
    /// Every position of a grid of `rows` x `columns`, or those of which at least half of the cell lies in the region.
    ///
    /// # Errors
    /// `Caller` where the region leaves none.
    pub fn of(roi: Option<&Roi>, geometry: &Geometry, (rows, columns): (usize, usize)) -> Result<Self> {
        let all = rows * columns;
        let Some(roi) = roi else { return Ok(Self { all, kept: None }) };
        let (height, width) = (geometry.size.height, geometry.size.width);
        let inside = roi.laid_out(geometry)?;
        let span = |i: usize, cells: usize, pixels: usize| {
            let from = (i * pixels / cells).min(pixels - 1);
            from..((i + 1) * pixels / cells).clamp(from + 1, pixels)
        };
        let half = |position: &u32| {
            let (y, x) = (*position as usize / columns, *position as usize % columns);
            let (lines, across) = (span(y, rows, height), span(x, columns, width));
            let cell = lines.len() * across.len();
            let count = |line: usize| inside[line * width..][across.clone()].iter().filter(|i| **i).count();
            2 * lines.map(count).sum::<usize>() >= cell
        };
        let kept: Vec<u32> = (0..all as u32).filter(half).collect();
        if kept.is_empty() {
            return Err(Error::caller(format!(
                "region of interest `{}`: no patch of the view of {} pixels, {columns} x {rows} patches, lies in it by half",
                roi.source(),
                geometry.size
            ))
            .with_hint("draw a larger region, or give larger sizes (`--size`)"));
        }
        Ok(Self { all, kept: Some(kept) })
    }

    /// How many positions count.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept.as_ref().map_or(self.all, Vec::len)
    }

    /// The `i`-th position that counts.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn nth(&self, i: usize) -> usize {
        match &self.kept {
            None => i,
            Some(kept) => kept[i] as usize,
        }
    }

    /// The values of the positions that count, from those of all, `[positions]`.
    #[must_use]
    pub fn select<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        match &self.kept {
            None => Cow::Borrowed(values),
            Some(kept) => Cow::Owned(kept.iter().map(|&i| values[i as usize]).collect()),
        }
    }

    /// For each position whether it counts; `None` where all do.
    #[must_use]
    pub fn flags(&self) -> Option<Vec<bool>> {
        let kept = self.kept.as_ref()?;
        let mut flags = vec![false; self.all];
        kept.iter().for_each(|&i| flags[i as usize] = true);
        Some(flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::{Fit, InputSize};

    #[test]
    fn a_position_counts_by_half_of_its_cell() {
        // Columns 0..20 of 64: cells of 8 columns, of which the third is inside by half exactly.
        let geometry = Geometry { fit: Fit::Stretch, size: InputSize::square(64) };
        let roi = |columns: usize| {
            let inside = (0..64 * 64).map(|i| i % 64 < columns).collect();
            Roi::new(InputSize::square(64), inside, "m.png").unwrap()
        };
        let kept = Positions::of(Some(&roi(20)), &geometry, (8, 8)).unwrap();
        assert_eq!(kept.count(), 24);
        assert_eq!((kept.nth(0), kept.nth(3), kept.nth(23)), (0, 8, 58));
        let values: Vec<f32> = (0..64).map(|v| v as f32).collect();
        assert_eq!(kept.select(&values)[..4], [0.0, 1.0, 2.0, 8.0]);
        assert_eq!(kept.flags().unwrap()[..4], [true, true, true, false]);
        assert_eq!(Positions::of(Some(&roi(19)), &geometry, (8, 8)).unwrap().count(), 16);
        let none = Positions::of(Some(&roi(3)), &geometry, (8, 8)).unwrap_err().to_string();
        assert!(none.contains("no patch of the view of 64 x 64 pixels, 8 x 8 patches"), "{none}");
        let all = Positions::of(None, &geometry, (8, 8)).unwrap();
        assert_eq!((all.count(), all.nth(5), all.flags()), (64, 5, None));
        assert_eq!(all.select(&values), values);
        // More cells than pixels, and cells that do not divide them.
        let whole = roi(64);
        for grid in [(100, 3), (5, 7), (65, 64)] {
            assert_eq!(Positions::of(Some(&whole), &geometry, grid).unwrap().count(), grid.0 * grid.1);
        }
    }
}
