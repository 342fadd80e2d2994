//! How training and evaluation tell the caller what they do, and are told to stop.

use crate::Result;
use crate::head::Head;

/// Receives progress. Methods may be called from several threads.
pub trait Observer: Sync {
    /// The observer that hears what this one does not take for itself; none unless this one stands before another.
    fn inner(&self) -> Option<&dyn Observer> {
        None
    }
    /// A stage of `total` pieces of work begins; `unit` is what a piece is, in the plural ("pictures", "steps").
    fn begin(&self, stage: &str, total: u64, unit: &str) {
        if let Some(inner) = self.inner() {
            inner.begin(stage, total, unit);
        }
    }
    /// So many pieces are done.
    fn advance(&self, pieces: u64) {
        if let Some(inner) = self.inner() {
            inner.advance(pieces);
        }
    }
    /// The stage is done.
    fn end(&self) {
        if let Some(inner) = self.inner() {
            inner.end();
        }
    }
    /// Something the user should know; the work goes on.
    fn warn(&self, message: &str) {
        if let Some(inner) = self.inner() {
            inner.warn(message);
        }
    }
    /// An epoch of so many is over, `epoch` counted from 1; `head` as it would be kept now. Called only where the length of training is in epochs.
    ///
    /// # Errors
    /// Any, which ends the training.
    fn epoch(&self, epoch: u64, epochs: u64, head: &Head) -> Result<()> {
        self.inner().map_or(Ok(()), |inner| inner.epoch(epoch, epochs, head))
    }
    /// Whether the user asked to stop. Asked often; must be cheap.
    fn interrupted(&self) -> bool {
        self.inner().is_some_and(Observer::interrupted)
    }
}

/// Says nothing, never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
