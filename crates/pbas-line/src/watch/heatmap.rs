//! Heatmaps of a watched folder: picture and map side by side, as `pbas predict --heatmaps` draws them.

use std::path::{Path, PathBuf};

use pbas::Result;
use pbas::detector::Verdict;
use pbas::image::Rgb8;
use pbas::preprocess::map_to_original;
use pbas::report::heatmap::{HeatmapLabel, file_name, render_region, write_png};

use crate::judge::{Judge, Judged};

/// The longest side of a drawn map; panels are not larger.
const LONGEST: usize = 640;

/// Draws a judged picture.
///
/// # Errors
/// None in practice.
pub fn draw(judge: &Judge, judged: &Judged, name: &str) -> Result<Rgb8> {
    let prediction = &judged.prediction;
    let longest = prediction.width.max(prediction.height).max(1);
    let side = |s: usize| if longest <= LONGEST { s } else { (s * LONGEST).div_ceil(longest).max(1) };
    let (width, height) = (side(prediction.width), side(prediction.height));
    let map = map_to_original(&prediction.map, &prediction.placement, width, height)?;
    let label = HeatmapLabel {
        name: name.to_owned(),
        image_score: prediction.image_score as f32,
        threshold: prediction.threshold as f32,
        anomalous: prediction.verdict == Verdict::Anomalous,
    };
    let roi = judge.detector().model().settings.roi.as_ref();
    Ok(render_region(&judged.picture, &map, None, roi, judge.scale(), &label))
}

/// Where the heatmap of a part is written: its number, then its name made harmless.
#[must_use]
pub fn path(folder: &Path, id: i64, name: &str) -> PathBuf {
    // A slash in a name would make folders.
    folder.join(file_name(&format!("{id:06}-{}", name.replace('/', "_"))))
}

/// Writes a drawn heatmap; one of the same part is replaced.
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path, id: i64, name: &str, drawn: &Rgb8) -> Result<()> {
    write_png(&path(folder, id, name), drawn)
}
