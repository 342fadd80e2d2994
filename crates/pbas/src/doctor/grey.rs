//! A grey picture in floats, and its small forms.

use crate::image::Rgb8;

/// Grey levels 0 to 255, `height` rows of `width`.
#[derive(Debug, Clone, PartialEq)]
pub struct Grey {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values.
    pub values: Vec<f32>,
}

impl Grey {
    /// Luma by ITU-R BT.601, as cameras and JPEG have it.
    #[must_use]
    pub fn of(picture: &Rgb8) -> Self {
        let luma = |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
        let values = picture.data.chunks_exact(3).map(luma).collect();
        Self { width: picture.width, height: picture.height, values }
    }

    /// The mean over each cell of a grid of `height` x `width`; a picture smaller than the grid repeats its pixels.
    #[must_use]
    pub fn cells(&self, width: usize, height: usize) -> Self {
        let span = |i: usize, cells: usize, pixels: usize| {
            let from = i * pixels / cells;
            from..((i + 1) * pixels / cells).max(from + 1)
        };
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let rows = span(y, height, self.height);
            for x in 0..width {
                let columns = span(x, width, self.width);
                let count = (rows.len() * columns.len()) as f32;
                let sum: f32 = rows
                    .clone()
                    .map(|r| self.values[r * self.width..][columns.clone()].iter().sum::<f32>())
                    .sum();
                values.push(sum / count);
            }
        }
        Self { width, height, values }
    }

    /// Mean and standard deviation.
    #[must_use]
    pub fn moments(&self) -> (f32, f32) {
        let n = self.values.len() as f64;
        let mean = self.values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = self.values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean as f32, var.sqrt() as f32)
    }

    /// How sharp the picture is, as the decimal logarithm of the power of its finest details over that of the next coarser
    /// ones: the variance of the Laplacian at this size over that at half of it, each of the picture smoothed by 1 2 1 (which
    /// keeps the camera's noise from passing for detail). Blur takes the finest first; the number of edges, light and contrast
    /// count for nothing, as they would in the variance alone.
    ///
    /// Only a comparison with pictures of the same kind at the same size means anything. `None` where the picture shows
    /// nothing (a deviation below one grey level) or is smaller than 16 pixels.
    #[must_use]
    pub fn sharpness(&self) -> Option<f32> {
        if self.width.min(self.height) < 16 || self.moments().1 < 1.0 {
            return None;
        }
        let half = self.cells(self.width / 2, self.height / 2);
        Some((self.laplacian().max(1e-9) / half.laplacian().max(1e-9)).log10() as f32)
    }

    /// Variance of the Laplacian of the smoothed picture; of at least 8 x 8 pixels.
    fn laplacian(&self) -> f64 {
        let (w, h) = (self.width, self.height);
        let mut smooth = vec![0.0; w * h];
        let mut line = vec![0.0; w];
        for y in 0..h {
            let row = |y: usize| &self.values[y * w..][..w];
            let (up, here, down) = (row(y.saturating_sub(1)), row(y), row((y + 1).min(h - 1)));
            for x in 0..w {
                line[x] = 0.25 * (up[x] + 2.0 * here[x] + down[x]);
            }
            for x in 1..w - 1 {
                smooth[y * w + x] = 0.25 * (line[x - 1] + 2.0 * line[x] + line[x + 1]);
            }
        }
        // One pixel of edge has no smooth value, the next no Laplacian.
        let (mut sum, mut squares) = (0.0f64, 0.0f64);
        for y in 2..h - 2 {
            let mut of_line = (0.0f32, 0.0f32);
            for x in 2..w - 2 {
                let i = y * w + x;
                let l = smooth[i - 1] + smooth[i + 1] + smooth[i - w] + smooth[i + w] - 4.0 * smooth[i];
                of_line = (of_line.0 + l, of_line.1 + l * l);
            }
            sum += f64::from(of_line.0);
            squares += f64::from(of_line.1);
        }
        let n = ((w - 4) * (h - 4)) as f64;
        squares / n - (sum / n).powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Grey {
        let values = (0..width * height).map(|i| value(i % width, i / width)).collect();
        Grey { width, height, values }
    }

    #[test]
    fn cells_are_means_and_keep_the_mean() {
        let g = grey(7, 5, |x, y| (3 * x + y * y) as f32);
        let same = g.cells(7, 5);
        assert_eq!(g, same);
        let one = g.cells(1, 1);
        assert!((one.values[0] - g.moments().0).abs() < 1e-4);
        let g = grey(8, 4, |x, y| if x < 4 { 10.0 } else { 20.0 + y as f32 });
        assert_eq!(g.cells(2, 2).values, [10.0, 20.5, 10.0, 22.5]);
        assert_eq!(grey(1, 1, |_, _| 5.0).cells(3, 2).values, [5.0; 6]);
    }

    #[test]
    fn blur_lowers_sharpness_and_neither_light_nor_the_number_of_edges_changes_it() {
        let stripes = |every: usize| grey(96, 96, move |x, _| if x / every % 2 == 0 { 60.0 } else { 180.0 });
        let sharp = stripes(12);
        let blurred = grey(96, 96, |x, y| {
            let near = |k: usize| sharp.values[y * 96 + (x + k).saturating_sub(2).min(95)];
            (0..5).map(near).sum::<f32>() / 5.0
        });
        let value = |g: &Grey| g.sharpness().unwrap();
        assert!(value(&blurred) < value(&sharp) - 0.2, "{} {}", value(&blurred), value(&sharp));
        let dark = grey(96, 96, |x, y| 0.4 * sharp.values[y * 96 + x] + 9.0);
        assert!((value(&dark) - value(&sharp)).abs() < 1e-3);
        assert!((value(&stripes(24)) - value(&sharp)).abs() < 0.05, "half of the edges");
        assert_eq!(grey(64, 64, |_, _| 80.0).sharpness(), None);
        assert_eq!(grey(15, 64, |x, _| 30.0 * x as f32).sharpness(), None);
    }
}
