//! Detector x test set -> [`EvalResult`].

use std::collections::BTreeMap;

use pbas_nn::linalg::Threads;
use serde::{Deserialize, Serialize};

use crate::compare::Opinion;
use crate::dataset::{Label, Sample, Saturation, TestSet};
use crate::detector::{Detector, Prediction, Scratch, Verdict};
use crate::error::chain;
use crate::image::{DecodeOptions, DefectArea, DefectMask, Rgb8, read_areas, read_mask, read_rgb, union};
use crate::metrics::{PixelCurve, PixelCurveBuilder, RankingCurve};
use crate::ordered::in_order;
use crate::preprocess::Geometry;
use crate::score::{Region, ScoreMap};
use crate::statistics::{SURPRISING, as_many_or_more};
use crate::train::observer::Observer;
use crate::words::{counted, percent};
use crate::{Error, ErrorKind, Result};

/// Area limits of the per-region overlap (algorithm.md, section 6).
pub const AUPRO_LIMITS: [f64; 2] = [0.3, 0.05];

/// Classes of defects by the part of the picture below which they lie.
const SIZES: [(f64, &str); 4] =
    [(0.001, "below 0.1 %"), (0.01, "0.1 % to 1 %"), (0.05, "1 % to 5 %"), (f64::INFINITY, "5 % and more")];
/// Points of [`EvalResult::pro_curve`], about.
const CURVE_POINTS: usize = 60;

/// Figures of one test set. Absent figures have a reason in `notes`; all are from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Area under the ROC curve of the image scores.
    pub image_auroc: Option<f64>,
    /// Average precision of the image scores.
    pub image_ap: Option<f64>,
    /// Best F1 over all thresholds on the image score. It is chosen with the labels: what a threshold could reach.
    pub image_f1_max: Option<f64>,
    /// Area under the ROC curve of the pixels.
    pub pixel_auroc: Option<f64>,
    /// Average precision of the pixels.
    pub pixel_ap: Option<f64>,
    /// Best F1 over all thresholds on the pixels; chosen with the labels.
    pub pixel_f1_max: Option<f64>,
    /// Per-region overlap up to a false positive rate of 0.3.
    pub aupro: Option<f64>,
    /// Per-region overlap up to a false positive rate of 0.05.
    #[serde(rename = "aupro_0.05")]
    pub aupro_005: Option<f64>,
    /// AU-PIMO ([`PixelCurve::aupimo`]).
    #[serde(default)]
    pub aupimo: Option<f64>,
    /// Part of the defective pictures that a threshold finds which rejects no good test picture; it is chosen with the labels.
    #[serde(default)]
    pub sensitivity_at_0: Option<f64>,
    /// The same with at most one good test picture in a hundred rejected.
    #[serde(default)]
    pub sensitivity_at_1_percent: Option<f64>,
    /// Pictures that were judged.
    pub images: usize,
    /// Good ones among them.
    pub good: usize,
    /// Defective ones among them.
    pub defective: usize,
    /// The model's threshold.
    pub threshold: f64,
    /// The share of good parts that it is set to reject.
    pub wanted_false_reject_rate: f64,
    /// Good pictures above it.
    pub false_rejects: usize,
    /// Probability of so many or more, were the wanted rate the true one: small values say that the test pictures are not like those that
    /// set the threshold.
    pub false_rejects_p: Option<f64>,
    /// Defective pictures not above it.
    pub missed: usize,
    /// Good pictures with a region above the model's pixel threshold, of which the wanted rate holds likewise.
    #[serde(default)]
    pub good_with_regions: usize,
    /// As [`Summary::false_rejects_p`].
    #[serde(default)]
    pub good_with_regions_p: Option<f64>,
    /// Defective pictures in which any region is marked.
    #[serde(default)]
    pub defective_with_regions: usize,
    /// Of these, pictures with a mask, those in which the rectangle of a region holds defective pixels. `None` without masks.
    #[serde(default)]
    pub regions_on_defect: Option<usize>,
}

/// Figures of one defect type against all good pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DefectTypeSummary {
    /// Its folder's name.
    pub defect_type: String,
    /// Pictures.
    pub images: usize,
    /// Area under the ROC curve against the good pictures.
    pub image_auroc: Option<f64>,
    /// Average precision against the good pictures.
    pub image_ap: Option<f64>,
    /// As [`Summary::sensitivity_at_0`].
    #[serde(default)]
    pub sensitivity_at_0: Option<f64>,
    /// As [`Summary::sensitivity_at_1_percent`].
    #[serde(default)]
    pub sensitivity_at_1_percent: Option<f64>,
    /// Not above the threshold.
    pub missed: usize,
}

/// Score of one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleScore {
    /// Path relative to the set.
    pub path: String,
    /// Type of the defect, `good` for none.
    pub defect_type: String,
    /// Score.
    pub image_score: f64,
    /// What the ranking figures are made of (see [`Prediction::rank_score`]).
    pub rank_score: f64,
    /// Verdict.
    pub verdict: Verdict,
    /// Part of the picture that is defective by its mask, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect_share: Option<f64>,
    /// Highest score in a region that is marked, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_region: Option<f32>,
    /// Whether the rectangle of a region holds defective pixels, of defective pictures with a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_on_defect: Option<bool>,
}

/// A picture that could not be judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Path relative to the set.
    pub path: String,
    /// Why.
    pub error: String,
}

/// Result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalResult {
    /// Overall figures; their keys stand at the top level of the JSON.
    #[serde(flatten)]
    pub summary: Summary,
    /// One row a defect type, sorted by name.
    pub defect_types: Vec<DefectTypeSummary>,
    /// The same by the part of the picture that is defective, for defective pictures with a mask; small ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defect_sizes: Vec<DefectTypeSummary>,
    /// One row a picture, in the order of the set.
    pub samples: Vec<SampleScore>,
    /// Pictures that could not be judged.
    pub failures: Vec<Failure>,
    /// What is odd about the set, and why figures are absent.
    pub notes: Vec<String>,
    /// Second opinions that were asked for ([`crate::compare`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Opinion>,
    /// The curve of the per-region overlap up to a false positive rate of 0.3, thinned: (false positive rate, overlap).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pro_curve: Vec<[f64; 2]>,
}

/// A judged picture, as [`evaluate`] hands it to its caller.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Which picture.
    pub sample: &'a Sample,
    /// Its pixels.
    pub picture: &'a Rgb8,
    /// Its ground truth, in pixels of the picture.
    pub mask: Option<&'a DefectMask>,
    /// What the model says.
    pub prediction: &'a Prediction,
}

/// Judges every picture of a test set and compares with the labels. `each` gets every judged picture in order (for
/// heatmaps). A picture that cannot be read is a [`Failure`]; the others go on.
///
/// # Errors
/// No picture could be judged, an interrupt, or an error of `each`.
pub fn evaluate(
    detector: &Detector,
    set: &TestSet,
    observer: &dyn Observer,
    each: &mut dyn FnMut(Judged<'_>) -> Result<()>,
) -> Result<EvalResult> {
    let mut notes = set.warnings.clone();
    let any_masks = set.samples.iter().any(|s| s.mask.is_some());
    let mut pixels = any_masks.then(PixelCurveBuilder::new);
    let (mut samples, mut failures) = (Vec::new(), Vec::new());
    let geometry = detector.map_geometry();
    let inside = detector.model().settings.roi.as_ref().map(|roi| roi.laid_out(&geometry)).transpose()?;
    let mut outside = 0;
    observer.begin("evaluating", set.samples.len() as u64, "pictures");
    let saturation = set.saturation.as_ref();
    if saturation.is_some() {
        notes.push(
            "AUPRO is the saturated one (sPRO): of an area what `defects_config.json` asks for is enough"
                .into(),
        );
    }
    let work = |scratch: &mut Scratch, sample: &Sample| judge(detector, (sample, saturation), scratch);
    in_order(&set.samples, Scratch::default, work, |sample, result| {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "evaluation was stopped"));
        }
        observer.advance(1);
        let (picture, truth, prediction) = match result {
            Ok(parts) => parts,
            Err(e) => {
                failures.push(Failure { path: sample.name.clone(), error: chain(&e) });
                return Ok(true);
            }
        };
        let truth = truth.unwrap_or_else(|e| {
            notes.push(format!("`{}` leaves the pixel figures: {}", sample.name, chain(&e)));
            None
        });
        if let Some(pixels) = &mut pixels {
            let inside = inside.as_deref();
            if let (Some(inside), Some(truth)) = (inside, &truth) {
                let seen = |m: DefectMask| m.data.iter().zip(inside).any(|(v, inside)| *v != 0 && *inside);
                outside += usize::from(!geometry.apply_mask(&truth.mask).is_ok_and(seen));
            }
            if let Err(e) =
                add_pixels(pixels, &prediction.map, (sample.label, truth.as_ref()), &geometry, inside)
            {
                notes.push(format!("`{}` leaves the pixel figures: {}", sample.name, chain(&e)));
            }
        }
        let mask = truth.as_ref().map(|t| &t.mask);
        each(Judged { sample, picture: &picture, mask, prediction: &prediction })?;
        samples.push(SampleScore {
            path: sample.name.clone(),
            defect_type: sample.defect_type.clone(),
            image_score: prediction.image_score,
            rank_score: prediction.rank_score,
            verdict: prediction.verdict,
            defect_share: mask.map(share),
            highest_region: prediction.regions.first().map(|r| r.peak),
            region_on_defect: mask.map(|m| prediction.regions.iter().any(|r| is_defective_in(m, r))),
        });
        Ok(true)
    })?;
    observer.end();
    if samples.is_empty() {
        let first = failures.first().map_or_else(|| "the set is empty".to_owned(), |f| f.error.clone());
        return Err(Error::input(format!(
            "none of the {} test pictures could be judged: {first}",
            set.samples.len()
        )));
    }
    if outside > 0 {
        notes.push(format!(
            "{} with no defect inside the region of interest: they can only be missed",
            counted(outside, "defective picture")
        ));
    }
    let pixels = pixels.map(PixelCurveBuilder::finish);
    summarize(detector, samples, failures, notes, pixels.as_ref())
}

/// Part of the mask that is defective.
fn share(mask: &DefectMask) -> f64 {
    mask.data.iter().filter(|v| **v != 0).count() as f64 / mask.data.len().max(1) as f64
}

/// Whether a mask has a defective pixel in the rectangle of a region.
fn is_defective_in(mask: &DefectMask, r: &Region) -> bool {
    let mut rows = mask.data.chunks(mask.width).skip(r.y).take(r.height);
    rows.any(|row| row.iter().skip(r.x).take(r.width).any(|v| *v != 0))
}

/// What is defective in a picture.
pub(crate) struct Truth {
    /// All of it.
    pub mask: DefectMask,
    /// The areas, where the set gives them; otherwise empty: the mask's connected parts.
    areas: Vec<DefectArea>,
}

type JudgedParts = (Rgb8, Result<Option<Truth>>, Prediction);

fn judge(
    detector: &Detector,
    of_set: (&Sample, Option<&Saturation>),
    scratch: &mut Scratch,
) -> Result<JudgedParts> {
    let (picture, truth) = read_sample(of_set, &detector.decode_options())?;
    let prediction = detector.predict(&picture, scratch, Threads::One)?;
    Ok((picture, truth, prediction))
}

/// Adds a picture's map to the pixel figures, its ground truth laid out as the map is. Of a defective picture without one nothing is added.
///
/// # Errors
/// As [`PixelCurveBuilder::add_areas`], or a mask that cannot be laid out.
pub(crate) fn add_pixels(
    pixels: &mut PixelCurveBuilder,
    map: &ScoreMap,
    (label, truth): (Label, Option<&Truth>),
    geometry: &Geometry,
    inside: Option<&[bool]>,
) -> Result<()> {
    match truth {
        None if label == Label::Good => pixels.add_inside(map, None, inside),
        None => Ok(()),
        Some(t) if t.areas.is_empty() => pixels.add_inside(map, Some(&geometry.apply_mask(&t.mask)?), inside),
        Some(t) => {
            let laid_out = |a: &DefectArea| Ok(DefectArea { mask: geometry.apply_mask(&a.mask)?, ..*a });
            pixels.add_areas(map, &t.areas.iter().map(laid_out).collect::<Result<Vec<_>>>()?, inside)
        }
    }
}

/// Reads a picture and, apart from whether that works, what is defective in it, which must be of the same size.
pub(crate) fn read_sample(
    (sample, saturation): (&Sample, Option<&Saturation>),
    options: &DecodeOptions,
) -> Result<(Rgb8, Result<Option<Truth>>)> {
    let picture = read_rgb(&sample.path, options)?;
    let truth = sample.mask.as_ref().map(|path| {
        let areas = saturation.map(|s| read_areas(path, options, |value, pixels| s.enough(value, pixels)));
        let areas = areas.transpose()?.unwrap_or_default();
        let mask = match areas.is_empty() {
            true => read_mask(path, options)?,
            false => union(areas.iter().map(|a| &a.mask), path)?,
        };
        if (mask.width, mask.height) != (picture.width, picture.height) {
            return Err(Error::input(format!(
                "mask `{}`: expected {} x {} pixels as its picture, found {} x {}",
                path.display(),
                picture.width,
                picture.height,
                mask.width,
                mask.height
            )));
        }
        Ok(Truth { mask, areas })
    });
    Ok((picture, truth.transpose()))
}

fn summarize(
    detector: &Detector,
    samples: Vec<SampleScore>,
    failures: Vec<Failure>,
    mut notes: Vec<String>,
    pixels: Option<&PixelCurve>,
) -> Result<EvalResult> {
    let is_good = |s: &&SampleScore| s.defect_type == "good";
    let good: Vec<&SampleScore> = samples.iter().filter(is_good).collect();
    let curve = |chosen: &[&SampleScore]| -> Result<RankingCurve> {
        let scores: Vec<f32> = chosen.iter().map(|s| s.rank_score as f32).collect();
        let positive: Vec<bool> = chosen.iter().map(|s| s.defect_type != "good").collect();
        RankingCurve::new(&scores, &positive)
    };
    let missed = |s: &&&SampleScore| s.verdict == Verdict::Normal;
    let against_good = |name: &str, defective: &[&SampleScore]| -> Result<DefectTypeSummary> {
        let both: Vec<&SampleScore> = good.iter().chain(defective).copied().collect();
        let curve = curve(&both)?;
        Ok(DefectTypeSummary {
            defect_type: name.to_owned(),
            images: defective.len(),
            image_auroc: curve.auroc(),
            image_ap: curve.average_precision(),
            sensitivity_at_0: curve.recall_at(0.0),
            sensitivity_at_1_percent: curve.recall_at(0.01),
            missed: defective.iter().filter(missed).count(),
        })
    };
    let mut by_type: BTreeMap<&str, Vec<&SampleScore>> = BTreeMap::new();
    let mut by_size: [Vec<&SampleScore>; SIZES.len()] = Default::default();
    for s in samples.iter().filter(|s| s.defect_type != "good") {
        by_type.entry(&s.defect_type).or_default().push(s);
        if let Some(share) = s.defect_share {
            by_size[SIZES.iter().position(|(most, _)| share < *most).unwrap_or(SIZES.len() - 1)].push(s);
        }
    }
    let defect_types = by_type.iter().map(|(name, of)| against_good(name, of)).collect::<Result<Vec<_>>>()?;
    let sizes = SIZES.iter().zip(&by_size).filter(|(_, of)| !of.is_empty());
    let defect_sizes = sizes.map(|((_, name), of)| against_good(name, of)).collect::<Result<Vec<_>>>()?;
    let all = curve(&samples.iter().collect::<Vec<_>>())?;
    let defective = samples.len() - good.len();
    if good.is_empty() {
        notes.push("no good test pictures: AUROC, average precision and F1 are absent".into());
    }
    if defective == 0 {
        notes.push("no defective test pictures: AUROC, average precision and F1 are absent".into());
    }
    let calibration = &detector.model().calibration;
    let rate = calibration.false_reject_rate;
    let mut chance = |count: usize, what: &str, which: &str| {
        let p = (!good.is_empty()).then(|| as_many_or_more(count, good.len(), rate));
        if p.is_some_and(|p| p < SURPRISING) {
            notes.push(format!(
                "{count} of {} good pictures {what}, more than chance allows at a rate of {}: they differ from the pictures that set the \
                 {which} (see `pbas calibrate`)",
                good.len(),
                percent(rate)
            ));
        }
        p
    };
    let false_rejects = good.iter().filter(|s| s.verdict == Verdict::Anomalous).count();
    let false_rejects_p = chance(false_rejects, "are rejected", "threshold");
    let is_marked =
        |s: &&&SampleScore| s.highest_region.is_some_and(|h| h > calibration.pixel_threshold as f32);
    let good_with_regions = good.iter().filter(is_marked).count();
    let good_with_regions_p = chance(good_with_regions, "have a region", "pixel threshold");
    let defective_with =
        |is: fn(&SampleScore) -> bool| samples.iter().filter(|s| s.defect_type != "good" && is(s)).count();
    let any_masks = samples.iter().any(|s| s.region_on_defect.is_some());
    let summary = Summary {
        image_auroc: all.auroc(),
        image_ap: all.average_precision(),
        image_f1_max: all.f1_max().map(|f| f.f1),
        pixel_auroc: pixels.and_then(|p| p.ranking().auroc()),
        pixel_ap: pixels.and_then(|p| p.ranking().average_precision()),
        pixel_f1_max: pixels.and_then(|p| p.ranking().f1_max()).map(|f| f.f1),
        aupro: pixels.and_then(|p| p.aupro(AUPRO_LIMITS[0])),
        aupro_005: pixels.and_then(|p| p.aupro(AUPRO_LIMITS[1])),
        aupimo: pixels.and_then(PixelCurve::aupimo),
        sensitivity_at_0: all.recall_at(0.0),
        sensitivity_at_1_percent: all.recall_at(0.01),
        images: samples.len(),
        good: good.len(),
        defective,
        threshold: detector.model().calibration.threshold,
        wanted_false_reject_rate: rate,
        false_rejects,
        false_rejects_p,
        missed: defect_types.iter().map(|t| t.missed).sum(),
        good_with_regions,
        good_with_regions_p,
        defective_with_regions: defective_with(|s| s.highest_region.is_some()),
        regions_on_defect: any_masks.then(|| defective_with(|s| s.region_on_defect == Some(true))),
    };
    if summary.pixel_auroc.is_none() {
        notes.push("no usable masks beside good pixels: pixel figures are absent".into());
    }
    let pro_curve = pixels.map(|p| p.overlap_curve(AUPRO_LIMITS[0], CURVE_POINTS)).unwrap_or_default();
    Ok(EvalResult {
        summary,
        defect_types,
        defect_sizes,
        samples,
        failures,
        notes,
        compared: Vec::new(),
        pro_curve,
    })
}
