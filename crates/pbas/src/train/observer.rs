//! How training and evaluation tell the caller what they do, and are told to stop.

use crate::Result;
use crate::head::Head;

/// Receives progress. Methods may be called from several threads.
pub trait Observer: Sync {
    /// A stage of `total` pieces of work begins; `unit` is what a piece is, in the plural ("pictures", "steps").
    fn begin(&self, stage: &str, total: u64, unit: &str) {
        let _ = (stage, total, unit);
    }
    /// So many pieces are done.
    fn advance(&self, pieces: u64) {
        let _ = pieces;
    }
    /// The stage is done.
    fn end(&self) {}
    /// Something the user should know; the work goes on.
    fn warn(&self, message: &str) {
        let _ = message;
    }
    /// An epoch of so many is over, `epoch` counted from 1; `head` as it would be kept now. Called only where the length of training is in epochs.
    ///
    /// # Errors
    /// Any, which ends the training.
    fn epoch(&self, epoch: u64, epochs: u64, head: &Head) -> Result<()> {
        let _ = (epoch, epochs, head);
        Ok(())
    }
    /// Whether the user asked to stop. Asked often; must be cheap.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Says nothing, never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
