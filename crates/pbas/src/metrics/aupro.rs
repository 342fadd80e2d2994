//! Figures over the pixels of many maps: ROC AUC, average precision, F1 and the per-region overlap (PRO).

use super::aupimo::{GoodTop, aupimo};
use super::builder::PixelCurveBuilder;
use super::ranking::RankingCurve;
use crate::image::DefectMask;
use crate::score::ScoreMap;
use crate::{Error, Result};

/// All pixels of all maps, sorted once: 4 bytes a good pixel, 8 a defective one.
#[derive(Debug, Clone)]
pub struct PixelCurve {
    pub(super) ranking: RankingCurve,
    /// The region of each defective pixel, in ascending order of score, as the ranking has its positives.
    pub(super) region_of: Vec<u32>,
    /// Further regions of defective pixels: sort key in the upper half, region in the lower, ascending.
    pub(super) also: Vec<u64>,
    pub(super) regions: Regions,
    /// The highest scores of good pictures.
    pub(super) good: GoodTop,
}

/// The regions of all pictures.
#[derive(Debug, Clone, Default)]
pub(super) struct Regions {
    /// Pixels of each.
    pub(super) areas: Vec<usize>,
    /// Pixels of each that count as all of it.
    pub(super) enough: Vec<f64>,
    /// The picture of each.
    picture_of: Vec<u32>,
    /// Defective pixels of each picture that has a region.
    picture_areas: Vec<usize>,
}

impl Regions {
    /// Adds so many regions of the next picture, empty; the first of them.
    pub(super) fn reserve(&mut self, count: usize) -> Result<usize> {
        let first = self.areas.len();
        if u32::try_from(first + count).is_err() {
            return Err(Error::limits("defect masks: expected fewer than 2^32 regions in all"));
        }
        self.areas.resize(first + count, 0);
        self.enough.resize(first + count, 0.0);
        self.picture_of.resize(first + count, self.picture_areas.len() as u32);
        Ok(first)
    }

    /// Ends a picture with so many defective pixels.
    pub(super) fn close_picture(&mut self, defective: usize) {
        if defective > 0 {
            self.picture_areas.push(defective);
        }
    }
}

/// The mean over regions of the part that is found, as their pixels enter one by one.
struct Overlap<'a> {
    regions: &'a Regions,
    /// Pixels found of each region.
    found: Vec<u32>,
    /// The parts, added.
    sum: f64,
}

impl Overlap<'_> {
    fn enter(&mut self, region: usize) {
        let enough = self.regions.enough[region];
        let before = f64::from(self.found[region]);
        self.found[region] += 1;
        self.sum += ((before + 1.0).min(enough) - before.min(enough)) / enough;
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
        builder.reserve_good(maps.iter().map(|m| m.values.len()).sum());
        for (i, (map, mask)) in maps.iter().zip(masks).enumerate() {
            builder.add(map, *mask).map_err(|e| e.context(format!("cannot use score map {i}")))?;
        }
        Ok(builder.finish())
    }

    /// Pixel AUROC, average precision and F1, over all pixels of all maps.
    pub fn ranking(&self) -> &RankingCurve {
        &self.ranking
    }

    /// Number of defect regions in all masks: 8-connected parts, or given areas.
    pub fn regions(&self) -> usize {
        self.regions.areas.len()
    }

    /// Area under the per-region-overlap curve up to a false positive rate of `limit`, divided by `limit`: 0 to 1
    /// (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2.2; they use 0.3).
    ///
    /// At each threshold the overlap is the mean over regions of the part of the region with scores at or above it, and the
    /// false positive rate the part of all good pixels (of good pictures too) at or above it. Trapezoids over every
    /// distinct score, cut linearly at the limit. Of areas of which a part is enough ([`PixelCurveBuilder::add_areas`]) the overlap is the part of
    /// what is enough, at most 1.
    ///
    /// `None` without regions, without good pixels, or unless 0 < `limit` <= 1.
    pub fn aupro(&self, limit: f64) -> Option<f64> {
        let (mut area, mut fpr, mut overlap) = (0.0, 0.0, 0.0);
        for (next_fpr, next_overlap) in self.corners(limit)? {
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

    /// (false positive rate, mean overlap) at every distinct score, highest first. `None` in the cases of [`PixelCurve::aupro`].
    fn corners(&self, limit: f64) -> Option<impl Iterator<Item = (f64, f64)> + '_> {
        let (negatives, count) = (self.ranking.negatives() as f64, self.regions() as f64);
        if count == 0.0 || negatives == 0.0 || !(limit > 0.0 && limit <= 1.0) {
            return None;
        }
        let mut overlap = Overlap { regions: &self.regions, found: vec![0; self.regions()], sum: 0.0 };
        let mut also = self.also.len();
        Some(self.ranking.steps().map(move |step| {
            self.region_of[step.entering.clone()].iter().for_each(|&r| overlap.enter(r as usize));
            while also > 0 && (self.also[also - 1] >> 32) as u32 >= step.key {
                also -= 1;
                overlap.enter(self.also[also] as u32 as usize);
            }
            (step.fp as f64 / negatives, overlap.sum / count)
        }))
    }

    /// AU-PIMO, 0 to 1: the mean over defective pictures of how much of their defective pixels is found while 1e-5 to 1e-4 of the pixels of
    /// good pictures are marked (Bertoldo et al., BMVC 2024). Exact over every distinct score, straight over the logarithm of the rate; below
    /// the first false positive what is found without one counts.
    ///
    /// `None` without defective pixels, or with fewer than 10,000 pixels of good pictures.
    pub fn aupimo(&self) -> Option<f64> {
        let r = &self.regions;
        let pictures = r.picture_areas.len() as f64;
        if r.areas.is_empty() {
            return None;
        }
        let of_picture: Vec<f64> =
            r.picture_areas.iter().map(|&area| 1.0 / (area as f64 * pictures)).collect();
        let of_pixel = |i: usize| of_picture[r.picture_of[self.region_of[i] as usize] as usize];
        aupimo(&self.ranking, of_pixel, &self.good)
    }

    /// The curve under which [`PixelCurve::aupro`] measures, (false positive rate, overlap) from (0, 0) up to `limit`, thinned to about
    /// `points` of them, evenly by false positive rate. Empty where that is `None`.
    #[must_use]
    pub fn overlap_curve(&self, limit: f64, points: usize) -> Vec<[f64; 2]> {
        let Some(corners) = self.corners(limit) else { return Vec::new() };
        let step = limit / points.max(1) as f64;
        let (mut curve, mut next) = (vec![[0.0; 2]], 0.0);
        for (fpr, overlap) in corners.take_while(|c| c.0 <= limit) {
            if fpr >= next {
                curve.push([fpr, overlap]);
                next = fpr + step;
            }
        }
        curve
    }
}
