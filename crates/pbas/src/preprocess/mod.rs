//! Geometry and normalisation, and the way back to original pixel coordinates.
