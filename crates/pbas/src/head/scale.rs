//! The scale on which features enter a head.

/// Mean and deviation of each entry of the training patches; features are used as z-scores.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureScale {
    /// `[dim]`.
    pub mean: Vec<f32>,
    /// `[dim]`, positive.
    pub deviation: Vec<f32>,
}

impl FeatureScale {
    /// The scale of patch features `[n, dim]`.
    #[must_use]
    pub fn of_rows(rows: &[f32], dim: usize) -> Self {
        let mut sums = ScaleSums::new(dim);
        rows.chunks_exact(dim).for_each(|row| sums.add(row));
        sums.scale()
    }

    /// Brings patch features `[n, dim]` to mean 0 and deviation 1.
    #[inline(always)]
    pub fn apply(&self, features: &mut [f32]) {
        for row in features.chunks_exact_mut(self.mean.len()) {
            for ((v, m), d) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *v = (*v - m) / d;
            }
        }
    }
}

/// Sums from which a [`FeatureScale`] is made, row by row.
#[derive(Debug)]
pub struct ScaleSums {
    rows: usize,
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl ScaleSums {
    /// No rows yet, of `dim` entries.
    #[must_use]
    pub fn new(dim: usize) -> Self {
        Self { rows: 0, sum: vec![0.0; dim], squares: vec![0.0; dim] }
    }

    /// Adds a patch feature, `[dim]`.
    pub fn add(&mut self, row: &[f32]) {
        self.rows += 1;
        for ((sum, squares), &v) in self.sum.iter_mut().zip(&mut self.squares).zip(row) {
            *sum += f64::from(v);
            *squares += f64::from(v) * f64::from(v);
        }
    }

    /// Mean and deviation of each entry over the rows.
    #[must_use]
    pub fn scale(&self) -> FeatureScale {
        let n = self.rows.max(1) as f64;
        let mean: Vec<f64> = self.sum.iter().map(|s| s / n).collect();
        let deviation: Vec<f64> =
            self.squares.iter().zip(&mean).map(|(s, m)| (s / n - m * m).max(0.0).sqrt()).collect();
        // An entry that never moves (a channel that is off for these pictures) must not become the loudest one.
        let floor = 1e-3 * deviation.iter().sum::<f64>() / deviation.len() as f64 + 1e-6;
        FeatureScale {
            mean: mean.iter().map(|&m| m as f32).collect(),
            deviation: deviation.iter().map(|&d| d.max(floor) as f32).collect(),
        }
    }
}
