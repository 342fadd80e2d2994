//! Second opinions on a test set, made on the same features as a model's own: what it has to beat.

mod nearest;
mod oracle;

use std::path::PathBuf;

use pbas_nn::linalg::Threads;
use serde::{Deserialize, Serialize};

pub use nearest::{CORESET_SHARE, NearestNeighbour, POOL};
pub use oracle::oracle;
pub(crate) use oracle::{Chosen, watched};

use crate::dataset::{Label, Sample, TestSet};
use crate::detector::Detector;
use crate::error::chain;
use crate::eval::{AUPRO_LIMITS, Truth, add_pixels, read_sample};
use crate::features::ExtractScratch;
use crate::metrics::{PixelCurveBuilder, RankingCurve};
use crate::ordered::in_order;
use crate::train::observer::Observer;
use crate::{Error, ErrorKind, Result};

/// Figures of a second opinion; absent ones as in [`crate::eval::Summary`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// Whose.
    pub method: String,
    /// Area under the ROC curve of the image scores.
    pub image_auroc: Option<f64>,
    /// Average precision of the image scores.
    pub image_ap: Option<f64>,
    /// Area under the ROC curve of the pixels.
    pub pixel_auroc: Option<f64>,
    /// Per-region overlap up to a false positive rate of 0.3.
    pub aupro: Option<f64>,
}

/// Judges a test set by nearest neighbours on the features and views of `detector`, the coreset taken from `good` pictures.
/// Pictures that cannot be read are left out (the evaluation itself reports them).
///
/// # Errors
/// As [`NearestNeighbour::fit`]; no picture could be judged; an interrupt.
pub fn nearest(
    detector: &Detector,
    good: &[PathBuf],
    set: &TestSet,
    cache_limit: u64,
    observer: &dyn Observer,
) -> Result<Opinion> {
    let options = detector.decode_options();
    let neighbours = NearestNeighbour::fit(detector, good, cache_limit, observer)?;
    let geometry = detector.map_geometry();
    let inside = detector.model().settings.roi.as_ref().map(|roi| roi.laid_out(&geometry)).transpose()?;
    let inside = inside.as_deref();
    let any_masks = set.samples.iter().any(|s| s.mask.is_some());
    let mut pixels = any_masks.then(PixelCurveBuilder::new);
    let (mut scores, mut positive) = (Vec::new(), Vec::new());
    observer.begin("comparing", set.samples.len() as u64, "pictures");
    let work = |scratch: &mut ExtractScratch, sample: &Sample| {
        let (picture, truth) = read_sample((sample, set.saturation.as_ref()), &options)?;
        Ok::<_, Error>((neighbours.judge(&picture, scratch, Threads::One)?, truth))
    };
    in_order(&set.samples, ExtractScratch::default, work, |sample, result| {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "evaluation was stopped"));
        }
        observer.advance(1);
        let Ok(((score, map), truth)) = result else { return Ok(true) };
        scores.push(score as f32);
        positive.push(sample.label == Label::Defective);
        if let Some(pixels) = &mut pixels {
            let of_sample = |truth: Option<Truth>| {
                add_pixels(pixels, &map, (sample.label, truth.as_ref()), &geometry, inside)
            };
            // Masks that cannot be used are named by the evaluation itself.
            let added = truth.map_or(Ok(()), of_sample);
            if let Err(e) = added {
                observer.warn(&format!(
                    "`{}` leaves the comparison's pixel figures: {}",
                    sample.name,
                    chain(&e)
                ));
            }
        }
        Ok(true)
    })?;
    observer.end();
    let ranking = RankingCurve::new(&scores, &positive)?;
    let pixels = pixels.map(PixelCurveBuilder::finish);
    Ok(Opinion {
        method: "nearest neighbour".into(),
        image_auroc: ranking.auroc(),
        image_ap: ranking.average_precision(),
        pixel_auroc: pixels.as_ref().and_then(|p| p.ranking().auroc()),
        aupro: pixels.as_ref().and_then(|p| p.aupro(AUPRO_LIMITS[0])),
    })
}
