//! Figures over the pixels of many maps: ROC AUC, average precision, F1 and the per-region overlap (PRO).

use rayon::slice::ParallelSliceMut;

use super::aupimo::{GoodTop, aupimo};
use super::ranking::{RankingCurve, check_no_nan, sort_key};
use crate::image::DefectMask;
use crate::score::ScoreMap;
use crate::score::components::Components;
use crate::{Error, Result};

/// All pixels of all maps, sorted once: 4 bytes a good pixel, 8 a defective one.
#[derive(Debug, Clone)]
pub struct PixelCurve {
    ranking: RankingCurve,
    /// The region of each defective pixel, in ascending order of score, as the ranking has its positives.
    region_of: Vec<u32>,
    /// Pixels of each region.
    region_areas: Vec<usize>,
    /// The picture of each region.
    picture_of: Vec<u32>,
    /// The highest scores of good pictures.
    good: GoodTop,
}

/// Takes maps one by one, so that they need not all be in memory; then [`PixelCurveBuilder::finish`].
#[derive(Debug, Clone, Default)]
pub struct PixelCurveBuilder {
    /// Of good pictures.
    good: Vec<u32>,
    /// The good pixels of defective ones.
    negatives: Vec<u32>,
    /// Sort key in the upper half, region in the lower: sorts by score, and takes the region along.
    positives: Vec<u64>,
    region_areas: Vec<usize>,
    picture_of: Vec<u32>,
}

impl PixelCurveBuilder {
    /// A builder without pixels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a map and its mask, both in the same pixels. `None` is a good picture, as is a mask without defective
    /// pixels. On an error nothing was added.
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
        map.check_shape()?;
        check_no_nan(&map.values)?;
        if let Some(found) = inside.map(<[bool]>::len).filter(|&n| n != map.values.len()) {
            return Err(Error::caller(format!(
                "region of interest: expected {} values as the score map, found {found}",
                map.values.len()
            )));
        }
        let counts = |i: usize| inside.is_none_or(|inside| inside[i]);
        let Some(mask) = mask else {
            let good = map.values.iter().enumerate().filter(|(i, _)| counts(*i));
            self.good.extend(good.map(|(_, &s)| sort_key(s)));
            return Ok(());
        };
        if (mask.width, mask.height, mask.data.len()) != (map.width, map.height, map.values.len()) {
            return Err(Error::caller(format!(
                "defect mask: expected {} x {} as its score map, found {} x {} of {} values",
                map.width,
                map.height,
                mask.width,
                mask.height,
                mask.data.len()
            )));
        }
        let components = Components::new(mask.width, mask.height, |i| mask.data[i] != 0 && counts(i))?;
        let first = self.region_areas.len();
        let count = components.pixels().map(|(_, _, label)| label + 1).max().unwrap_or(0);
        if u32::try_from(first + count).is_err() {
            return Err(Error::limits("defect masks: expected fewer than 2^32 regions in all"));
        }
        self.region_areas.resize(first + count, 0);
        let picture = self.picture_of.last().map_or(0, |p| p + 1);
        self.picture_of.resize(first + count, picture);
        for (x, y, label) in components.pixels() {
            let region = first + label;
            self.region_areas[region] += 1;
            self.positives.push(u64::from(sort_key(map.values[y * map.width + x])) << 32 | region as u64);
        }
        let good = map.values.iter().zip(&mask.data).enumerate().filter(|(i, (_, m))| **m == 0 && counts(*i));
        let keys = good.map(|(_, (&s, _))| sort_key(s));
        // A mask without defective pixels is that of a good picture.
        if count == 0 {
            self.good.extend(keys)
        } else {
            self.negatives.extend(keys)
        }
        Ok(())
    }

    /// Sorts the pixels (on all threads of the current rayon pool).
    pub fn finish(self) -> PixelCurve {
        let Self { good: mut negatives, negatives: others, mut positives, region_areas, picture_of } = self;
        let good = GoodTop::of(&mut negatives);
        negatives.extend(others);
        negatives.par_sort_unstable();
        positives.par_sort_unstable();
        let region_of = positives.iter().map(|&p| p as u32).collect();
        let keys = positives.into_iter().map(|p| (p >> 32) as u32).collect();
        let ranking = RankingCurve::from_sorted(keys, negatives);
        PixelCurve { ranking, region_of, region_areas, picture_of, good }
    }
}

impl PixelCurve {
    /// All maps at once: `masks[i]` belongs to `maps[i]`; `None` is a good picture.
    ///
    /// # Errors
    /// Lengths that differ, and those of [`PixelCurveBuilder::add`], saying which map.
    pub fn new(maps: &[ScoreMap], masks: &[Option<&DefectMask>]) -> Result<Self> {
        if maps.len() != masks.len() {
            return Err(Error::caller(format!(
                "defect masks: expected {} (or none) as there are score maps, found {}",
                maps.len(),
                masks.len()
            )));
        }
        let mut builder = PixelCurveBuilder::new();
        builder.good.reserve_exact(maps.iter().map(|m| m.values.len()).sum());
        for (i, (map, mask)) in maps.iter().zip(masks).enumerate() {
            builder.add(map, *mask).map_err(|e| e.context(format!("cannot use score map {i}")))?;
        }
        Ok(builder.finish())
    }

    /// Pixel AUROC, average precision and F1, over all pixels of all maps.
    pub fn ranking(&self) -> &RankingCurve {
        &self.ranking
    }

    /// Number of 8-connected defect regions in all masks.
    pub fn regions(&self) -> usize {
        self.region_areas.len()
    }

    /// Area under the per-region-overlap curve up to a false positive rate of `limit`, divided by `limit`: 0 to 1
    /// (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2.2; they use 0.3).
    ///
    /// At each threshold the overlap is the mean over regions of the part of the region with scores at or above it, and the
    /// false positive rate the part of all good pixels (of good pictures too) at or above it. Trapezoids over every
    /// distinct score, cut linearly at the limit.
    ///
    /// `None` without regions, without good pixels, or unless 0 < `limit` <= 1.
    pub fn aupro(&self, limit: f64) -> Option<f64> {
        let negatives = self.ranking.negatives();
        if self.region_areas.is_empty() || negatives == 0 || !(limit > 0.0 && limit <= 1.0) {
            return None;
        }
        let weights = self.weights();
        let (mut area, mut fpr, mut overlap) = (0.0, 0.0, 0.0);
        for step in self.ranking.steps() {
            let entering = &self.region_of[step.entering.clone()];
            let next_overlap = overlap + entering.iter().map(|&r| weights[r as usize]).sum::<f64>();
            let next_fpr = step.fp as f64 / negatives as f64;
            if next_fpr >= limit {
                let cut = overlap + (next_overlap - overlap) * (limit - fpr) / (next_fpr - fpr);
                area += (limit - fpr) * (overlap + cut) / 2.0;
                break;
            }
            area += (next_fpr - fpr) * (overlap + next_overlap) / 2.0;
            (fpr, overlap) = (next_fpr, next_overlap);
        }
        Some(area / limit)
    }

    /// AU-PIMO, 0 to 1: the mean over defective pictures of how much of their defective pixels is found while 1e-5 to 1e-4 of the pixels of
    /// good pictures are marked (Bertoldo et al., BMVC 2024). Exact over every distinct score, straight over the logarithm of the rate; below
    /// the first false positive what is found without one counts.
    ///
    /// `None` without defective pixels, or with fewer than 10,000 pixels of good pictures.
    pub fn aupimo(&self) -> Option<f64> {
        let pictures = self.picture_of.last()? + 1;
        let mut areas = vec![0usize; pictures as usize];
        for (&picture, &area) in self.picture_of.iter().zip(&self.region_areas) {
            areas[picture as usize] += area;
        }
        let of_region: Vec<f64> =
            self.picture_of.iter().map(|&p| 1.0 / (areas[p as usize] as f64 * f64::from(pictures))).collect();
        aupimo(&self.ranking, |i| of_region[self.region_of[i] as usize], &self.good)
    }

    /// By what one pixel of each region adds to the mean overlap.
    fn weights(&self) -> Vec<f64> {
        let regions = self.region_areas.len() as f64;
        self.region_areas.iter().map(|&area| 1.0 / (area as f64 * regions)).collect()
    }

    /// The curve under which [`PixelCurve::aupro`] measures, (false positive rate, overlap) from (0, 0) up to `limit`, thinned to about
    /// `points` of them, evenly by false positive rate. Empty where that is `None`.
    #[must_use]
    pub fn overlap_curve(&self, limit: f64, points: usize) -> Vec<[f64; 2]> {
        let negatives = self.ranking.negatives();
        if self.region_areas.is_empty() || negatives == 0 || !(limit > 0.0 && limit <= 1.0) {
            return Vec::new();
        }
        let (weights, step) = (self.weights(), limit / points.max(1) as f64);
        let (mut curve, mut overlap, mut next) = (vec![[0.0; 2]], 0.0, 0.0);
        for s in self.ranking.steps() {
            overlap += self.region_of[s.entering.clone()].iter().map(|&r| weights[r as usize]).sum::<f64>();
            let fpr = s.fp as f64 / negatives as f64;
            if fpr > limit {
                break;
            }
            if fpr >= next {
                curve.push([fpr, overlap]);
                next = fpr + step;
            }
        }
        curve
    }
}
