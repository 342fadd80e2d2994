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
    /// Brings patch features `[n, dim]` to mean 0 and deviation 1.
    pub fn apply(&self, features: &mut [f32]) {
        for row in features.chunks_exact_mut(self.mean.len()) {
            for ((v, m), d) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *v = (*v - m) / d;
            }
        }
    }
}
