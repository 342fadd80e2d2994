//! Heatmaps of a run: one colour scale for all, filed by the pictures' names.

use std::path::{Path, PathBuf};

use pbas::Result;
use pbas::detector::{Detector, Prediction};
use pbas::image::{DefectMask, Rgb8};
use pbas::report::heatmap::{ColourScale, file_name, of_prediction, write_png};
use pbas::roi::Roi;

use crate::paths::check_folder;

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
        let drawn = of_prediction(picture, prediction, mask, (self.roi.as_ref(), self.scale), name)?;
        write_png(&self.folder.join(file_name(name)), &drawn)
    }
}
