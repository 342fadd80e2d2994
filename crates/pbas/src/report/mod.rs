//! What people look at: heatmaps beside the pictures they were made from; the report of a benchmark.

pub mod bench;
pub mod gallery;
pub mod heatmap;
pub mod label;
mod panel;
mod paths;
pub mod still;
pub mod verdict;
