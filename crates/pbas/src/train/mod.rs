//! Training. ABL, AFS and RBO are not three phases one after another: after one pre-pass (features of every picture
//! cached once, centres aligned) every step does all three on one batch and makes one update of the summed loss.

pub mod boundary;
pub mod centers;
pub mod params;
pub mod refinement;
pub mod step;
pub mod synthesis;
