//! What people look at: heatmaps beside the pictures they were made from.

pub mod heatmap;
pub mod label;
mod panel;
mod paths;
