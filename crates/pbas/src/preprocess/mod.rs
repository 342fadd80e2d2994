//! Geometry and normalisation, and the way back to original pixel coordinates.
//!
//! On the way in, [`Geometry::apply`] brings a picture to the size that the model looks at and says by a
//! [`Placement`] how the original lies in it; [`Normalization::to_nhwc`] turns bytes into the network's floats.
//! On the way back, [`map_to_original`] lays a score map over the original picture.
//!
//! Coordinates are continuous: pixel `i` covers `[i, i + 1)` and its centre is `i + 0.5` (the half-pixel convention).

mod back;
mod geometry;
mod normalize;
mod placement;
mod resample;

pub use back::map_to_original;
pub use geometry::{Fit, Geometry, InputSize, MAX_INPUT_SIDE, MAX_PICTURE_SIDE};
pub use normalize::Normalization;
pub use placement::{Axis, Placement};
