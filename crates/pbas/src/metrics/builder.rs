//! Collects the pixels of many maps for the figures of a [`PixelCurve`].

use rayon::slice::ParallelSliceMut;

use super::aupimo::GoodTop;
use super::aupro::{PixelCurve, Regions};
use super::ranking::{RankingCurve, check_no_nan, sort_key};
use crate::image::{DefectArea, DefectMask};
use crate::score::ScoreMap;
use crate::score::components::Components;
use crate::{Error, Result};

/// Takes maps one by one, so that they need not all be in memory; then [`PixelCurveBuilder::finish`].
#[derive(Debug, Clone, Default)]
pub struct PixelCurveBuilder {
    /// Of good pictures.
    good: Vec<u32>,
    /// The good pixels of defective ones.
    negatives: Vec<u32>,
    /// Sort key in the upper half, region in the lower: sorts by score, and takes the region along.
    positives: Vec<u64>,
    /// The same of pixels that are in a further region.
    also: Vec<u64>,
    regions: Regions,
}

impl PixelCurveBuilder {
    /// A builder without pixels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a map and its mask, both in the same pixels; the mask's regions are its 8-connected parts. `None` is a good picture, as is a mask
    /// without defective pixels. On an error nothing was added.
    ///
    /// # Errors
    /// A mask of another size than its map, a map or mask of another length than its size, a NaN score.
    pub fn add(&mut self, map: &ScoreMap, mask: Option<&DefectMask>) -> Result<()> {
        self.add_inside(map, mask, None)
    }

    /// As [`PixelCurveBuilder::add`], of the pixels that `inside` says alone, `[height, width]` as the map: the others are neither
    /// good nor defective.
    ///
    /// # Errors
    /// As [`PixelCurveBuilder::add`], and where `inside` is of another length than the map.
    pub fn add_inside(
        &mut self,
        map: &ScoreMap,
        mask: Option<&DefectMask>,
        inside: Option<&[bool]>,
    ) -> Result<()> {
        check(map, inside)?;
        let counts = |i: usize| inside.is_none_or(|inside| inside[i]);
        let Some(mask) = mask else {
            self.add_good(map, counts, true);
            return Ok(());
        };
        same_size(map, mask)?;
        let components = Components::new(mask.width, mask.height, |i| mask.data[i] != 0 && counts(i))?;
        let count = components.pixels().map(|(_, _, label)| label + 1).max().unwrap_or(0);
        let first = self.regions.reserve(count)?;
        for (x, y, label) in components.pixels() {
            let region = first + label;
            self.regions.areas[region] += 1;
            self.positives.push(entry(map.values[y * map.width + x], region));
        }
        for region in first..first + count {
            self.regions.enough[region] = self.regions.areas[region] as f64;
        }
        self.regions.close_picture(components.pixels().count());
        // A mask without defective pixels is that of a good picture.
        self.add_good(map, |i| counts(i) && mask.data[i] == 0, count == 0);
        Ok(())
    }

    /// As [`PixelCurveBuilder::add_inside`], with areas that are a region each, connected or not. They may overlap: a pixel of several counts
    /// once as a pixel, and in each of them. Of an area that has pixels `enough` of them count as all (saturated per-region overlap, sPRO;
    /// Bergmann et al., "Beyond Dents and Scratches", IJCV 2022, section 5.2).
    ///
    /// # Errors
    /// As [`PixelCurveBuilder::add_inside`], and where a share of an area is not above 0 and at most 1.
    pub fn add_areas(&mut self, map: &ScoreMap, areas: &[DefectArea], inside: Option<&[bool]>) -> Result<()> {
        check(map, inside)?;
        for area in areas {
            same_size(map, &area.mask)?;
            if !(area.enough > 0.0 && area.enough <= 1.0) {
                return Err(Error::caller(format!(
                    "defect area: expected above 0 and at most 1 of it to suffice, found {}",
                    area.enough
                )));
            }
        }
        let counts = |i: usize| inside.is_none_or(|inside| inside[i]);
        let pixels = |area: &DefectArea| {
            area.mask.data.iter().enumerate().filter(|(i, v)| **v != 0 && counts(*i)).map(|p| p.0).collect()
        };
        let kept: Vec<(Vec<usize>, f64)> = areas
            .iter()
            .map(|a| (pixels(a), a.enough))
            .filter(|(p, _): &(Vec<usize>, f64)| !p.is_empty())
            .collect();
        let first = self.regions.reserve(kept.len())?;
        let mut defective = vec![false; map.values.len()];
        for (region, (pixels, enough)) in (first..).zip(&kept) {
            self.regions.areas[region] = pixels.len();
            self.regions.enough[region] = pixels.len() as f64 * enough;
            for &i in pixels {
                let again = std::mem::replace(&mut defective[i], true);
                let of = if again { &mut self.also } else { &mut self.positives };
                of.push(entry(map.values[i], region));
            }
        }
        self.regions.close_picture(defective.iter().filter(|d| **d).count());
        self.add_good(map, |i| counts(i) && !defective[i], kept.is_empty());
        Ok(())
    }

    fn add_good(&mut self, map: &ScoreMap, is_good: impl Fn(usize) -> bool, of_good_picture: bool) {
        let keys = map.values.iter().enumerate().filter(|(i, _)| is_good(*i)).map(|(_, &s)| sort_key(s));
        if of_good_picture { self.good.extend(keys) } else { self.negatives.extend(keys) }
    }

    /// Room for the pixels of good pictures, of so many in all.
    pub(super) fn reserve_good(&mut self, pixels: usize) {
        self.good.reserve_exact(pixels);
    }

    /// Sorts the pixels (on all threads of the current rayon pool).
    pub fn finish(self) -> PixelCurve {
        let Self { good: mut negatives, negatives: others, mut positives, mut also, regions } = self;
        let good = GoodTop::of(&mut negatives);
        negatives.extend(others);
        negatives.par_sort_unstable();
        positives.par_sort_unstable();
        also.sort_unstable();
        let region_of = positives.iter().map(|&p| p as u32).collect();
        let keys = positives.into_iter().map(|p| (p >> 32) as u32).collect();
        let ranking = RankingCurve::from_sorted(keys, negatives);
        PixelCurve { ranking, region_of, also, regions, good }
    }
}

fn entry(score: f32, region: usize) -> u64 {
    u64::from(sort_key(score)) << 32 | region as u64
}

fn check(map: &ScoreMap, inside: Option<&[bool]>) -> Result<()> {
    map.check_shape()?;
    check_no_nan(&map.values)?;
    match inside.map(<[bool]>::len).filter(|&n| n != map.values.len()) {
        None => Ok(()),
        Some(found) => Err(Error::caller(format!(
            "region of interest: expected {} values as the score map, found {found}",
            map.values.len()
        ))),
    }
}

fn same_size(map: &ScoreMap, mask: &DefectMask) -> Result<()> {
    if (mask.width, mask.height, mask.data.len()) == (map.width, map.height, map.values.len()) {
        return Ok(());
    }
    Err(Error::caller(format!(
        "defect mask: expected {} x {} as its score map, found {} x {} of {} values",
        map.width,
        map.height,
        mask.width,
        mask.height,
        mask.data.len()
    )))
}
