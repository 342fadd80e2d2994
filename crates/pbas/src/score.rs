//! Patch scores -> [`ScoreMap`], image score, regions. Plain slices; knows nothing of networks.

/// One score a pixel: `height` rows of `width` values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreMap {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width` values.
    pub values: Vec<f32>,
}
