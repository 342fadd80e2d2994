//! The one model of a watched folder, which may be replaced while it is in service.

use std::sync::{Arc, PoisonError, RwLock};

use crate::judge::Judge;

/// The model in service. Clones are the same slot.
#[derive(Debug, Clone)]
pub struct Slot(Arc<RwLock<Arc<Judge>>>);

impl Slot {
    /// With a model.
    #[must_use]
    pub fn new(judge: Judge) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(judge))))
    }

    /// The model that is in service now.
    #[must_use]
    pub fn judge(&self) -> Arc<Judge> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one in its place; pictures that are being judged are finished with the old one.
    pub fn replace(&self, judge: Judge) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(judge);
    }
}
