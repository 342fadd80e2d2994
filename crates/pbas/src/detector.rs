//! Backbone + views + preprocessing + threshold -> [`Prediction`].

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

use pbas_nn::linalg::Threads;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;
use crate::calibrate::Calibration;
use crate::features::ExtractScratch;
use crate::image::{DecodeOptions, Rgb8, read_rgb};
use crate::preprocess::{Geometry, InputSize, Placement};
use crate::score::{Region, ScoreMap, region_of_peak, regions};
use crate::settings::Settings;
use crate::view::{View, ViewRunner};
use crate::{Error, Result};

/// The answer to "is this part good?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The score is at or below the threshold.
    Normal,
    /// The score is above the threshold.
    Anomalous,
}

/// What a model says of one picture.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// How rare the picture would be among good ones, as `-log10` of a probability, or the published sigmoid in 0..1 (see [`crate::settings::Scoring`]).
    pub image_score: f64,
    /// Ranks pictures as `image_score` does, but without the ties of a sigmoid at 1: with [`crate::settings::Scoring::Sigmoid`] the logit.
    pub rank_score: f64,
    /// What a recalibration wants of the picture: the heads' common value before it is ranked ([`Calibration::value`]).
    pub value: f64,
    /// Bound on the probability that a good picture scores as high ([`crate::calibrate::Judgement`]).
    pub p_value: f64,
    /// What the score is held against.
    pub threshold: f64,
    /// The verdict.
    pub verdict: Verdict,
    /// Width of the picture, in pixels, as it is seen (after EXIF orientation).
    pub width: usize,
    /// Height of the picture.
    pub height: usize,
    /// Where the map is above the pixel threshold, in pixels of the picture, highest peak first; of an anomalous picture whose map is nowhere
    /// above it the surroundings of the highest point ([`region_of_peak`]). Those of at least [`Settings::min_area`] pixels.
    pub regions: Vec<Region>,
    /// The score map at the model's size; [`Prediction::placement`] leads back to the picture.
    pub map: ScoreMap,
    /// How the picture lies in the map.
    pub placement: Placement,
    /// Time from the decoded picture to this answer.
    pub milliseconds: f64,
}

/// What a model is made of; what its file holds.
#[derive(Debug, Clone)]
pub struct Model {
    /// Frozen network, cut to the feature layers in use.
    pub backbone: Backbone,
    /// Settings it was trained with.
    pub settings: Settings,
    /// Sizes with their heads; the largest map first.
    pub views: Vec<View>,
    /// Threshold.
    pub calibration: Calibration,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl Model {
    /// How pictures are to be decoded for this model.
    #[must_use]
    pub fn decode_options(&self) -> DecodeOptions {
        DecodeOptions { apply_orientation: self.settings.apply_orientation, ..DecodeOptions::default() }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of the program that trained it.
    pub program_version: String,
    /// Good pictures that were used.
    pub pictures: usize,
    /// SHA-256 over the SHA-256 of every picture file, in order.
    pub pictures_sha256: String,
    /// The first 16 hexadecimal digits of the SHA-256 of every picture's file and of its size and pixels, sorted: a picture that was trained on is known again, also where it
    /// was saved anew without loss (not by models of earlier programs, which have the files' alone).
    pub picture_digests: Vec<String>,
    /// Pictures that could not be read and were left out.
    pub skipped: usize,
}

/// A model ready to judge pictures. Shared between threads; each brings its own [`Scratch`].
#[derive(Debug)]
pub struct Detector {
    model: Model,
    runners: Vec<ViewRunner>,
    /// Pixels of the map in the region of interest, if there is one.
    inside: Option<Vec<bool>>,
}

/// Buffers of one thread; those of a view each.
#[derive(Debug, Default)]
pub struct Scratch {
    views: Vec<ExtractScratch>,
}

/// What one view says of a picture: the score of each head, the map, and where the picture lies in it.
type OfView = (Vec<f64>, ScoreMap, Placement);

impl Detector {
    /// Resolves a model.
    ///
    /// # Errors
    /// Parts that do not fit each other.
    pub fn new(model: Model) -> Result<Self> {
        let Some(map_size) = model.views.iter().map(|v| v.size).max_by_key(|s| s.height * s.width) else {
            return Err(Error::input("model: expected at least one view, found none"));
        };
        let runner = |view| ViewRunner::new(&model.backbone, view, &model.settings, map_size);
        let runners = model.views.par_iter().with_max_len(1).map(runner).collect::<Result<Vec<_>>>()?;
        let geometry = Geometry { fit: model.settings.fit, size: map_size };
        let inside = model.settings.roi.as_ref().map(|roi| roi.laid_out(&geometry)).transpose()?;
        Ok(Self { runners, inside, model })
    }

    /// With another least area of the regions that are reported, in pixels of the picture ([`Settings::min_area`]).
    #[must_use]
    pub fn with_min_area(mut self, pixels: usize) -> Self {
        self.model.settings.min_area = pixels;
        self
    }

    /// The views, ready to run.
    pub(crate) fn runners(&self) -> &[ViewRunner] {
        &self.runners
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Size of the score map.
    #[must_use]
    pub fn map_size(&self) -> InputSize {
        let sizes = self.model.views.iter().map(|v| v.size);
        sizes.max_by_key(|s| s.height * s.width).unwrap_or(InputSize { height: 1, width: 1 })
    }

    /// The geometry of the score map, for masks that are to be compared with it.
    #[must_use]
    pub fn map_geometry(&self) -> Geometry {
        Geometry { fit: self.model.settings.fit, size: self.map_size() }
    }

    /// How pictures are to be decoded for this model.
    #[must_use]
    pub fn decode_options(&self) -> DecodeOptions {
        self.model.decode_options()
    }

    /// Reads and judges one picture on all cores.
    ///
    /// # Errors
    /// A file that is not a readable picture.
    pub fn predict_path(&self, path: &Path) -> Result<Prediction> {
        let picture = read_rgb(path, &self.decode_options())?;
        self.predict(&picture, &mut Scratch::default(), Threads::All)
    }

    /// What is looked at of a picture: all of it, or of a region of interest the inside, the rest painted over.
    pub(crate) fn seen<'a>(&self, picture: &'a Rgb8) -> Result<Cow<'a, Rgb8>> {
        Ok(match &self.model.settings.roi {
            Some(roi) => Cow::Owned(roi.paint(picture)?),
            None => Cow::Borrowed(picture),
        })
    }

    /// The score of each head (the sum over views, each on scale), the map, and where the picture lies in it.
    ///
    /// # Errors
    /// As [`Detector::predict`].
    pub fn scores(
        &self,
        picture: &Rgb8,
        scratch: &mut Scratch,
        threads: Threads,
    ) -> Result<(Vec<f64>, ScoreMap, Placement)> {
        let picture = &*self.seen(picture)?;
        scratch.views.resize_with(self.runners.len(), ExtractScratch::default);
        let look = |(runner, scratch): (&ViewRunner, &mut ExtractScratch)| {
            self.of_view(runner, picture, scratch, threads)
        };
        // Side by side, so that what only one thread can do of a view does not let the others wait.
        let found: Vec<OfView> = match threads {
            Threads::One => self.runners.iter().zip(&mut scratch.views).map(look).collect::<Result<_>>()?,
            Threads::All => {
                let views = self.runners.par_iter().zip(&mut scratch.views).with_max_len(1);
                views.map(look).collect::<Result<_>>()?
            }
        };
        let (mut sums, mut maps, mut placement) = (Vec::new(), Vec::new(), None);
        for ((scores, map, at), runner) in found.into_iter().zip(&self.runners) {
            if runner.extractor().geometry().size == self.map_size() {
                placement = Some(at);
            }
            sums.resize(scores.len(), 0.0);
            sums.iter_mut().zip(scores).for_each(|(sum, s)| *sum += s);
            maps.push((map, runner.map_weight()));
        }
        let placement = placement.ok_or_else(|| Error::input("model: no view has the size of the map"))?;
        Ok((sums, mean_map(maps)?, placement))
    }

    fn of_view(
        &self,
        runner: &ViewRunner,
        picture: &Rgb8,
        scratch: &mut ExtractScratch,
        threads: Threads,
    ) -> Result<OfView> {
        let scoring = self.model.settings.scoring;
        let (evidence, at) = runner.evidence(picture, scratch, threads)?;
        Ok((runner.head_scores(&evidence.logits, scoring), runner.map(&evidence, scoring)?, at))
    }

    /// Judges one picture. The answer does not depend on `threads`.
    ///
    /// # Errors
    /// A picture that the geometry cannot lay out, or scores that are not numbers.
    pub fn predict(&self, picture: &Rgb8, scratch: &mut Scratch, threads: Threads) -> Result<Prediction> {
        let start = Instant::now();
        let (scores, map, placement) = self.scores(picture, scratch, threads)?;
        let finite = scores.iter().all(|s| s.is_finite()) && map.values.iter().all(|v| v.is_finite());
        if !finite {
            return Err(Error::input("the scores of this picture are not all numbers; the model is damaged"));
        }
        let calibration = &self.model.calibration;
        let value = calibration.value(&scores, self.model.settings.scoring);
        let judgement = calibration.judge_value(value, self.model.settings.scoring);
        let threshold = calibration.pixel_threshold as f32;
        let seen = in_picture(&map, &placement, self.inside.as_deref());
        let mut found = regions(&seen, threshold, 1)?;
        if found.is_empty() && judgement.rejected {
            found.extend(region_of_peak(&seen)?);
        }
        let (width, height) = (picture.width, picture.height);
        let regions = found.into_iter().map(|r| to_picture(r, &placement, width, height));
        let regions = regions.filter(|r| r.area >= self.model.settings.min_area).collect();
        Ok(Prediction {
            image_score: judgement.image_score,
            rank_score: judgement.rank_score,
            value,
            p_value: judgement.p_value,
            threshold: calibration.threshold,
            verdict: if judgement.rejected { Verdict::Anomalous } else { Verdict::Normal },
            width,
            height,
            regions,
            map,
            placement,
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
        })
    }
}

/// The map, which is as large as the model's input, with nothing in the padding nor, of a region of interest, outside.
fn in_picture<'a>(map: &'a ScoreMap, placement: &Placement, inside: Option<&[bool]>) -> Cow<'a, ScoreMap> {
    let [rows, columns] = placement.shown();
    if inside.is_none() && rows == (0..map.height) && columns == (0..map.width) {
        return Cow::Borrowed(map);
    }
    let mut seen = map.clone();
    for (i, value) in seen.values.iter_mut().enumerate() {
        let inside = inside.is_none_or(|inside| inside[i]);
        if !(inside && rows.contains(&(i / map.width)) && columns.contains(&(i % map.width))) {
            *value = f32::NEG_INFINITY;
        }
    }
    Cow::Owned(seen)
}

/// The mean of the views' maps, which are of one size, by their weights.
///
/// # Errors
/// If there are none.
pub(crate) fn mean_map(maps: Vec<(ScoreMap, f32)>) -> Result<ScoreMap> {
    let total: f32 = maps.iter().map(|(_, weight)| weight).sum();
    let mut maps = maps.into_iter().map(|(map, weight)| (map, weight / total));
    let first = maps.next().ok_or_else(|| Error::input("model: expected at least one view, found none"))?;
    let (mut mean, share) = first;
    mean.values.iter_mut().for_each(|v| *v *= share);
    for (map, share) in maps {
        mean.values.iter_mut().zip(&map.values).for_each(|(a, b)| *a += share * b);
    }
    Ok(mean)
}

/// A region of the map, no part of which is padding, in pixels of the picture: the smallest rectangle of whole pixels around it.
fn to_picture(region: Region, placement: &Placement, width: usize, height: usize) -> Region {
    let corner = [region.x as f64, region.y as f64, region.width as f64, region.height as f64];
    let [x, y, w, h] = placement.rect_to_original(corner);
    // Rounding errors of the affine map must not add a pixel.
    let (left, top) = ((x + 1e-6).floor() as usize, (y + 1e-6).floor() as usize);
    let (left, top) = (left.min(width - 1), top.min(height - 1));
    let right = ((x + w - 1e-6).ceil() as usize).clamp(left + 1, width);
    let bottom = ((y + h - 1e-6).ceil() as usize).clamp(top + 1, height);
    let area = region.area as f64 / (placement.x.scale * placement.y.scale);
    let (width, height) = (right - left, bottom - top);
    let area = (area.round() as usize).clamp(1, width * height);
    Region { x: left, y: top, width, height, area, peak: region.peak }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Fit;

    /// The highest point of a map may lie in the padding, where no part is.
    #[test]
    fn padding_shows_no_region() {
        let geometry = Geometry { fit: Fit::Pad, size: InputSize::square(64) };
        let placement = geometry.place(640, 320).unwrap();
        let mut map = ScoreMap { width: 64, height: 64, values: vec![0.0; 64 * 64] };
        (map.values[15 * 64 + 9], map.values[16 * 64 + 9], map.values[47 * 64 + 60]) = (9.0, 2.0, 1.0);
        map.values[48 * 64 + 60] = 3.0;
        let found = |inside: Option<&[bool]>| {
            let seen = in_picture(&map, &placement, inside);
            regions(&seen, 0.5, 1).unwrap().iter().map(|r| (r.x, r.y, r.peak)).collect::<Vec<_>>()
        };
        assert_eq!(found(None), [(9, 16, 2.0), (60, 47, 1.0)], "rows 16 to 47 show the picture");
        let right: Vec<bool> = (0..64 * 64).map(|i| i % 64 > 31).collect();
        assert_eq!(found(Some(&right)), [(60, 47, 1.0)]);
        let whole = geometry.place(640, 640).unwrap();
        assert!(
            matches!(in_picture(&map, &whole, None), Cow::Borrowed(_)),
            "nothing is copied where all is seen"
        );
    }
}
