//! Curves and histograms as SVG that takes its colours from the page.

use plotters::prelude::*;

use crate::detector::Verdict;
use crate::eval::EvalResult;
use crate::{Error, ErrorKind, Result};

const SIZE: (u32, u32) = (320, 250);
const BINS: usize = 24;
/// Put in by the drawing, replaced by variables of the page, so that dark and light are the page's matter.
const INK: (RGBColor, &str, &str) = (RGBColor(1, 2, 3), "#010203", "currentColor");
const GRID: (RGBColor, &str, &str) = (RGBColor(1, 2, 4), "#010204", "var(--line)");
const FIRST: (RGBColor, &str, &str) = (RGBColor(1, 2, 5), "#010205", "var(--good)");
const SECOND: (RGBColor, &str, &str) = (RGBColor(1, 2, 6), "#010206", "var(--bad)");

/// The plots of a run, each with its title; those that are not defined are left out.
pub(super) fn plots(result: &EvalResult) -> Result<Vec<String>> {
    let mut plots = Vec::new();
    let mut scored: Vec<(f64, bool)> =
        result.samples.iter().map(|s| (s.rank_score, s.defect_type != "good")).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = scored.iter().filter(|s| s.1).count();
    if positives > 0 && positives < scored.len() {
        let [roc, pr] = curves(&scored, positives);
        plots.push(curve("ROC, images", "false reject rate", "found", (1.0, 1.0), &roc)?);
        plots.push(curve("Precision and recall, images", "recall", "precision", (1.0, 1.0), &pr)?);
    }
    if result.pro_curve.len() > 1 {
        let points: Vec<(f64, f64)> = result.pro_curve.iter().map(|p| (p[0], p[1])).collect();
        plots.push(curve("PRO, regions", "false positive rate of pixels", "overlap", (0.3, 1.0), &points)?);
    }
    plots.push(histogram(result)?);
    Ok(plots)
}

/// (false positive rate, recall) and (recall, precision) at every distinct score, highest first.
fn curves(scored: &[(f64, bool)], positives: usize) -> [Points; 2] {
    let negatives = scored.len() - positives;
    let (mut roc, mut pr, mut tp, mut fp) = (vec![(0.0, 0.0)], Vec::new(), 0, 0);
    for (i, &(score, positive)) in scored.iter().enumerate() {
        tp += usize::from(positive);
        fp += usize::from(!positive);
        if scored.get(i + 1).is_some_and(|next| next.0 == score) {
            continue;
        }
        let recall = tp as f64 / positives as f64;
        roc.push((fp as f64 / negatives as f64, recall));
        pr.push((recall, tp as f64 / (tp + fp) as f64));
    }
    [roc, pr]
}

/// (x, y).
type Points = Vec<(f64, f64)>;

fn curve(title: &str, x: &str, y: &str, (right, top): (f64, f64), points: &[(f64, f64)]) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = frame(&root, title).build_cartesian_2d(0.0..right, 0.0..top).map_err(broken)?;
        mesh(&mut chart.configure_mesh(), x, y)?;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), FIRST.0.stroke_width(2)))
            .map_err(broken)?;
        root.present().map_err(broken)?;
    }
    Ok(themed(&svg, title))
}

/// Scores of good and defective pictures, and the threshold.
fn histogram(result: &EvalResult) -> Result<String> {
    let scores: Vec<f64> = result.samples.iter().map(|s| s.image_score).collect();
    let threshold = result.summary.threshold;
    let low = scores.iter().copied().fold(threshold, f64::min);
    let high = scores.iter().copied().fold(threshold, f64::max);
    let high = if high > low { high } else { low + 1.0 };
    let width = (high - low) / BINS as f64;
    let mut counts = [[0u32; BINS]; 2];
    for s in &result.samples {
        let bin = (((s.image_score - low) / width) as usize).min(BINS - 1);
        counts[usize::from(s.defect_type != "good")][bin] += 1;
    }
    let most = counts.iter().flatten().copied().max().unwrap_or(1).max(1);
    let missed =
        result.samples.iter().filter(|s| s.defect_type != "good" && s.verdict == Verdict::Normal).count();
    let title = format!("Scores: {} false rejects, {missed} missed", result.summary.false_rejects);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = frame(&root, &title)
            .build_cartesian_2d(low..high, 0.0..f64::from(most) * 1.05)
            .map_err(broken)?;
        mesh(&mut chart.configure_mesh(), "score (line: threshold)", "pictures")?;
        for (counts, colour) in counts.iter().zip([FIRST.0, SECOND.0]) {
            let bars = counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, &n)| {
                let left = low + i as f64 * width;
                Rectangle::new([(left, 0.0), (left + width, f64::from(n))], colour.mix(0.55).filled())
            });
            chart.draw_series(bars).map_err(broken)?;
        }
        let line = [(threshold, 0.0), (threshold, f64::from(most) * 1.05)];
        chart.draw_series(LineSeries::new(line, INK.0.stroke_width(2))).map_err(broken)?;
        root.present().map_err(broken)?;
    }
    Ok(themed(&svg, &title))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// A plot's title and margins.
fn frame<'a, 'b>(root: &'a Area<'b>, title: &str) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(root);
    chart.caption(title, ("sans-serif", 15, &INK.0)).margin(8).x_label_area_size(34).y_label_area_size(42);
    chart
}

type Mesh<'a, 'b, 'c> = plotters::chart::MeshStyle<
    'a,
    'b,
    plotters::coord::types::RangedCoordf64,
    plotters::coord::types::RangedCoordf64,
    SVGBackend<'c>,
>;

fn mesh(mesh: &mut Mesh<'_, '_, '_>, x: &str, y: &str) -> Result<()> {
    mesh.x_desc(x)
        .y_desc(y)
        .x_labels(5)
        .y_labels(5)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.0.stroke_width(1))
        .axis_style(INK.0.stroke_width(1))
        .label_style(("sans-serif", 12, &INK.0))
        .axis_desc_style(("sans-serif", 12, &INK.0))
        .draw()
        .map_err(broken)
}

/// The page's colours, a size that follows the page, and for who does not see it what is drawn. `title` is one of this module's, without markup.
fn themed(svg: &str, title: &str) -> String {
    let themed =
        [INK, GRID, FIRST, SECOND].iter().fold(svg.to_owned(), |text, (_, hex, css)| text.replace(hex, css));
    let size = format!("width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
    themed.replacen(&size, &format!("role=\"img\" aria-label=\"{title}\""), 1)
}

fn broken(e: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("cannot draw a plot: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_enter_together() {
        let [roc, pr] = curves(&[(3.0, true), (2.0, true), (2.0, false), (1.0, false)], 2);
        assert_eq!(roc, [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        assert_eq!(pr, [(0.5, 1.0), (1.0, 2.0 / 3.0), (1.0, 0.5)]);
    }

    #[test]
    fn colours_are_the_pages() {
        let svg = curve("a < b", "x", "y", (1.0, 1.0), &[(0.0, 0.0), (1.0, 1.0)]).unwrap();
        assert!(
            svg.contains("currentColor") && svg.contains("var(--good)") && svg.contains("viewBox"),
            "{svg}"
        );
        assert!(!svg.contains("#01020") && svg.contains("a &lt; b"), "{svg}");
    }
}
