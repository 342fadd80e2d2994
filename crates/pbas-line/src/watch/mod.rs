//! A folder into which cameras drop pictures: each is judged and recorded once, in order of arrival, whatever happens to the process.
//!
//! - [`scan`]: which files are complete, and in which order.
//! - [`take`]: a file -> what the model says of it, or that it is not complete after all.
//! - [`mod@run`]: scans, judges on all cores, records in order, then sees to the actions.
//! - [`actions`]: what is done about a recorded part; it is noted in the record and done again after a restart until it is noted as done.
//! - [`moving`], [`exec`], [`mqtt`], [`heatmap`]: the actions.
//! - [`Page`]: the page for people, served beside.
//! - [`camera`]: whether pictures are of the size that the model expects.
//!
//! The record is the ledger: a part's row is committed together with its file (path, size, time, content) and its actions before any
//! action begins. So a kill loses nothing and doubles no row; lines, commands and messages come at least once, with the part's number.

pub mod actions;
pub mod camera;
pub mod exec;
pub mod heatmap;
pub mod moving;
pub mod mqtt;
mod page;
pub mod run;
pub mod scan;
pub mod slot;
pub mod take;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use page::Page;
pub use run::run;
pub use slot::Slot;

use crate::hub::Hub;
use crate::record::retain::Retention;

/// Where what is said to people goes.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;
/// Where the JSON lines go; `false` where nobody reads any more.
pub type Print = Box<dyn FnMut(&str) -> pbas::Result<bool>>;

/// When a file counts as complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The folder is looked at so often, whether the system tells of changes or not.
    pub poll: Duration,
    /// A file is tried once its size and time have stayed the same for so long.
    pub quiet: Duration,
    /// A file that has stayed the same for so long and still is no picture is set aside; one that has grown for so long is spoken of.
    pub give_up: Duration,
    /// Only pictures with a `.done` file beside them are taken.
    pub done_files: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(500),
            quiet: Duration::from_secs(1),
            give_up: Duration::from_secs(30),
            done_files: false,
        }
    }
}

/// What is done about each part beside recording it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Where good parts are moved to.
    pub good: Option<PathBuf>,
    /// Where rejected parts are moved to.
    pub anomalous: Option<PathBuf>,
    /// Where files that are no pictures are moved to; they stay where they are without.
    pub unreadable: Option<PathBuf>,
    /// Where heatmaps are written.
    pub heatmaps: Option<PathBuf>,
    /// A command to be run.
    pub exec: Option<exec::Program>,
    /// A broker to be told.
    pub mqtt: Option<mqtt::Broker>,
}

/// A watched folder.
pub struct Watch {
    /// The folder; files in it are taken, not those in folders below it.
    pub folder: PathBuf,
    /// The model in service.
    pub model: Slot,
    /// The record, and who looks on.
    pub hub: Hub,
    /// When files are complete.
    pub patience: Patience,
    /// Actions.
    pub wanted: Wanted,
    /// Thumbnails and maps are kept in the record.
    pub pictures: bool,
    /// What the record keeps.
    pub retention: Retention,
    /// Warnings.
    pub say: Say,
    /// Lines.
    pub print: Print,
}
