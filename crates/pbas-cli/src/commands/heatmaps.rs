//! Heatmaps of a run: one colour scale for all, filed by the pictures' names.

use std::path::{Path, PathBuf};

use pbas::Result;
use pbas::detector::{Detector, Prediction, Verdict};
use pbas::image::{DefectMask, Rgb8};
use pbas::preprocess::map_to_original;
use pbas::report::heatmap::{ColourScale, HeatmapLabel, file_name, render_region, write_png};
use pbas::roi::Roi;

use crate::paths::check_folder;

/// The longest side of a drawn map; panels are not larger.
const LONGEST_SIDE: usize = 640;
/// Where heatmaps go and what their colours stand for.
#[derive(Debug)]
pub struct Heatmaps {
    folder: PathBuf,
    scale: ColourScale,
    roi: Option<Roi>,
}

impl Heatmaps {
    /// Heatmaps into `folder`, if there is one, which is made and checked.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(folder: Option<&Path>, detector: &Detector) -> Result<Option<Self>> {
        let Some(folder) = folder else { return Ok(None) };
        check_folder("heatmaps", folder)?;
        let model = detector.model();
        let scale = ColourScale::of_model(model);
        Ok(Some(Self { folder: folder.to_owned(), scale, roi: model.settings.roi.clone() }))
    }

    /// Draws and writes one.
    ///
    /// # Errors
    /// The operating system refuses to write.
    pub fn write(
        &self,
        name: &str,
        picture: &Rgb8,
        mask: Option<&DefectMask>,
        prediction: &Prediction,
    ) -> Result<()> {
        let (width, height) = limited(prediction.width, prediction.height);
        let map = map_to_original(&prediction.map, &prediction.placement, width, height)?;
        let label = HeatmapLabel {
            name: name.to_owned(),
            image_score: prediction.image_score as f32,
            threshold: prediction.threshold as f32,
            anomalous: prediction.verdict == Verdict::Anomalous,
        };
        let drawn = render_region(picture, &map, mask, self.roi.as_ref(), self.scale, &label);
        write_png(&self.folder.join(file_name(name)), &drawn)
    }
}

/// A size of the same proportions whose longer side is at most [`LONGEST_SIDE`].
fn limited(width: usize, height: usize) -> (usize, usize) {
    let longest = width.max(height);
    if longest <= LONGEST_SIDE {
        return (width, height);
    }
    let side = |s: usize| (s * LONGEST_SIDE).div_ceil(longest).max(1);
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_bounded() {
        assert_eq!(limited(320, 200), (320, 200));
        assert_eq!(limited(1280, 640), (640, 320));
        assert_eq!(limited(20, 4000), (4, 640));
        assert_eq!(limited(1, 100_000), (1, 640));
    }
}
