//! A picture beside its score map, for people: a header with name, score and verdict; panels with the picture,
//! the map over the picture and, if known, the true defect; a bar with the colour scale.

use super::label::{CHARACTER, clip, draw_text, number, put};
use super::panel;
pub use super::paths::file_name;
use crate::detector::{Model, Prediction, Verdict};
use crate::image::{DefectMask, Rgb8};
use crate::preprocess::map_to_original;
use crate::roi::Roi;
use crate::score::ScoreMap;
use crate::settings::Scoring;
use crate::{Error, Result};
use std::fs;
use std::io::Write;
use std::path::Path;

const BACKGROUND: [u8; 3] = [24, 24, 28];
const TEXT: [u8; 3] = [225, 225, 225];
const GREEN: [u8; 3] = [80, 210, 110];
const RED: [u8; 3] = [255, 90, 80];
/// Behind the colour bar: metal of middling brightness, as the overlay is mostly seen on.
const BAR_GROUND: [u8; 3] = [120; 3];
/// Between panels, and around text.
const GAP: usize = 6;
/// Two lines of text.
const HEADER: usize = 2 * CHARACTER + 3 * GAP;
const FOOTER: usize = CHARACTER + 2 * GAP;
const BAR_HEIGHT: usize = 8;
/// Room for the second line of the header with numbers of the usual length.
const NARROWEST: usize = 36 * CHARACTER;

/// Ends of the colour scale in pixel thresholds: good surface stays free of colour, and what is a quarter higher than anything on the good pictures
/// is brightest. Heads' logits count up to a limit, so many defects lie little above what single heads say of a good picture.
const SCALE: [f64; 2] = [0.25, 1.25];

/// Which scores the colours stand for. Pictures of one run can be compared if they share a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourScale {
    /// Score at and below which the overlay is invisible.
    pub low: f32,
    /// Score at and above which the colour is the brightest.
    pub high: f32,
}

impl ColourScale {
    /// The scale on which maps of a model are drawn.
    #[must_use]
    pub fn of_model(model: &Model) -> Self {
        Self::of(model.settings.scoring, model.calibration.pixel_threshold)
    }

    fn of(scoring: Scoring, pixel_threshold: f64) -> Self {
        match scoring {
            Scoring::Sigmoid => Self { low: 0.0, high: 1.0 },
            Scoring::Rarity { .. } if pixel_threshold > 0.0 => {
                let [low, high] = SCALE.map(|share| (share * pixel_threshold) as f32);
                Self { low, high }
            }
            // Good patches have a mean of 0 and a deviation of 1, so this is a model in name only.
            Scoring::Rarity { .. } => Self { low: 0.0, high: 1.0 },
        }
    }

    /// Place of a score on the scale, 0..1. NaN is at 0. Where `high` is not above `low`, all scores above `low`
    /// are at 1.
    pub fn position(self, score: f32) -> f32 {
        let place = if self.high > self.low {
            (score - self.low) / (self.high - self.low)
        } else {
            f32::from(u8::from(score > self.low))
        };
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }
}

/// What the header says.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatmapLabel {
    /// Name of the picture; clipped with `...` to the width there is.
    pub name: String,
    /// Score of the whole picture.
    pub image_score: f32,
    /// The score from which on a picture is a defect.
    pub threshold: f32,
    /// The verdict: `DEFECT` in red, or `GOOD` in green.
    pub anomalous: bool,
}

/// Draws picture, overlay and (if given) defect mask side by side.
///
/// `map` and `mask` cover the whole picture and may have any size. Panels keep the picture's aspect; their longest
/// side is at most 640 pixels, and pictures below 128 are enlarged by a whole factor. A map or mask whose size
/// and length disagree is not drawn; a picture without pixels is shown as a blank.
pub fn render(
    picture: &Rgb8,
    map: &ScoreMap,
    mask: Option<&DefectMask>,
    scale: ColourScale,
    label: &HeatmapLabel,
) -> Rgb8 {
    render_region(picture, map, mask, None, scale, label)
}

/// As [`render`]; in the panel with the map, what lies outside the region of interest is dark.
pub fn render_region(
    picture: &Rgb8,
    map: &ScoreMap,
    mask: Option<&DefectMask>,
    roi: Option<&Roi>,
    scale: ColourScale,
    label: &HeatmapLabel,
) -> Rgb8 {
    let base = panel::base(picture);
    let mut overlay = panel::overlay(&base, map, scale);
    if let Some(roi) = roi {
        panel::darken_outside(&mut overlay, roi);
    }
    let outline = mask.map(|mask| panel::outline(&base, mask));
    let panels: Vec<&Rgb8> = [Some(&base), Some(&overlay), outline.as_ref()].into_iter().flatten().collect();

    let width = (panels.len() * (base.width + GAP) - GAP).max(NARROWEST);
    let height = HEADER + base.height + FOOTER;
    let mut canvas = Rgb8 { width, height, data: BACKGROUND.repeat(width * height) };
    draw_header(&mut canvas, label);
    for (i, panel) in panels.iter().enumerate() {
        paste(&mut canvas, panel, i * (base.width + GAP), HEADER);
    }
    draw_bar(&mut canvas, HEADER + base.height, scale);
    canvas
}

/// Draws what a model says of a picture: [`render_region`] of a prediction.
///
/// # Errors
/// A map that does not fit its placement.
pub fn of_prediction(
    picture: &Rgb8,
    prediction: &Prediction,
    mask: Option<&DefectMask>,
    (roi, scale): (Option<&Roi>, ColourScale),
    name: &str,
) -> Result<Rgb8> {
    let (width, height) = limited(prediction.width, prediction.height);
    let map = map_to_original(&prediction.map, &prediction.placement, width, height)?;
    let label = HeatmapLabel {
        name: name.to_owned(),
        image_score: prediction.image_score as f32,
        threshold: prediction.threshold as f32,
        anomalous: prediction.verdict == Verdict::Anomalous,
    };
    Ok(render_region(picture, &map, mask, roi, scale, &label))
}

/// A size of the same proportions whose longer side is at most that of a panel: no more of the map is seen.
fn limited(width: usize, height: usize) -> (usize, usize) {
    let longest = width.max(height);
    if longest <= panel::LONGEST {
        return (width, height);
    }
    let side = |s: usize| (s * panel::LONGEST).div_ceil(longest).max(1);
    (side(width), side(height))
}

fn draw_header(canvas: &mut Rgb8, label: &HeatmapLabel) {
    let room = (canvas.width - 2 * GAP) / CHARACTER;
    draw_text(canvas, GAP, GAP, &clip(&label.name, room), TEXT);
    let (verdict, colour) = if label.anomalous { ("DEFECT", RED) } else { ("GOOD", GREEN) };
    let second = 2 * GAP + CHARACTER;
    draw_text(canvas, GAP, second, verdict, colour);
    let score = format!("score {} threshold {}", number(label.image_score), number(label.threshold));
    let after = "DEFECT ".len();
    draw_text(canvas, GAP + after * CHARACTER, second, &clip(&score, room - after), TEXT);
}

/// The bar below the panels, between the scores at its ends.
fn draw_bar(canvas: &mut Rgb8, top: usize, scale: ColourScale) {
    let (low, high) = (number(scale.low), number(scale.high));
    let line = top + GAP;
    draw_text(canvas, GAP, line, &low, TEXT);
    let right = canvas.width.saturating_sub(GAP + high.len() * CHARACTER);
    draw_text(canvas, right, line, &high, TEXT);
    let (from, to) = (2 * GAP + low.len() * CHARACTER, right.saturating_sub(GAP));
    for x in from..to {
        let place = (x - from) as f32 / (to - from - 1).max(1) as f32;
        let mut pixel = BAR_GROUND;
        panel::blend(&mut pixel, panel::colour(place), panel::opacity(place));
        for y in 0..BAR_HEIGHT {
            put(canvas, x, line + (CHARACTER - BAR_HEIGHT) / 2 + y, pixel);
        }
    }
}

fn paste(canvas: &mut Rgb8, panel: &Rgb8, left: usize, top: usize) {
    for (y, row) in panel.data.chunks_exact(3 * panel.width).enumerate() {
        let at = 3 * ((top + y) * canvas.width + left);
        canvas.data[at..at + row.len()].copy_from_slice(row);
    }
}

/// Writes a picture as PNG; missing folders are made. It is written to a temporary file beside `path` and then
/// renamed, so `path` never holds half a picture.
///
/// # Errors
/// The picture's size and length disagree; the operating system refuses. The message names `path`.
pub fn write_png(path: &Path, picture: &Rgb8) -> Result<()> {
    let cannot = |e: std::io::Error| Error::io("cannot write picture", path, e);
    // Encoded in memory first: what fails from here on is the operating system.
    let bytes =
        picture.png().map_err(|e| e.context(format!("cannot encode picture `{}`", path.display())))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(cannot)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".heatmap-").suffix(".tmp");
    #[cfg(unix)]
    {
        // A temporary file is the owner's alone; a picture gets what the umask leaves, as any file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(cannot)?;
    file.write_all(&bytes).map_err(cannot)?;
    file.persist(path).map(drop).map_err(|e| cannot(e.error))
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

    #[test]
    fn the_scale_follows_the_model() {
        let deviations = Scoring::Rarity { top_share: 0.01 };
        assert_eq!(ColourScale::of(deviations, 8.0), ColourScale { low: 2.0, high: 10.0 });
        assert_eq!(ColourScale::of(deviations, -1.0), ColourScale { low: 0.0, high: 1.0 });
        assert_eq!(ColourScale::of(Scoring::Sigmoid, 0.4), ColourScale { low: 0.0, high: 1.0 });
    }
}
