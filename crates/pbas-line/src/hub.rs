//! Where verdicts go: into the record, and to whoever looks on.

use std::sync::Arc;

use pbas::Result;
use tokio::sync::broadcast;

use crate::record::{NewPart, Part, Record};

/// Verdicts that a slow onlooker may be behind before it misses some (and asks the record for them).
const BEHIND: usize = 256;

/// The record, and a channel on which every part appears once it is recorded. Clones are the same hub.
#[derive(Debug, Clone)]
pub struct Hub {
    record: Record,
    parts: broadcast::Sender<Arc<Part>>,
}

impl Hub {
    /// A hub around a record.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self { record, parts: broadcast::channel(BEHIND).0 }
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Records a part, then tells the onlookers. Blocks for the disk: from async code, call it on a blocking thread.
    ///
    /// # Errors
    /// As [`Record::add`]; nothing is told then.
    pub fn add(&self, part: &NewPart) -> Result<Arc<Part>> {
        let part = Arc::new(self.record.add(part)?);
        self.tell(&part);
        Ok(part)
    }

    /// Tells the onlookers of a part that was recorded in another way.
    pub fn tell(&self, part: &Arc<Part>) {
        // Nobody looking on is no fault.
        let _ = self.parts.send(Arc::clone(part));
    }

    /// Parts recorded from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Part>> {
        self.parts.subscribe()
    }
}
