//! What people look at: heatmaps beside the pictures they were made from.

pub mod gallery;
pub mod heatmap;
pub mod label;
mod panel;
mod paths;
