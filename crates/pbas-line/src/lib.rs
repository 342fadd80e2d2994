//! A model at the line: pictures from cameras become verdicts all day, every verdict is kept, and a person can look at what was
//! rejected.
//!
//! - [`judge`]: a model file, loaded and named; bytes of a picture -> what it says, timed.
//! - [`record`]: every verdict in one SQLite file, chained by digests.
//! - [`hub`]: where verdicts go: into the record, and to whoever looks on.
//! - [`watch`]: a folder into which cameras drop pictures.
//! - [`serve`]: the same over HTTP (Open Inference Protocol v2, and a simple way beside it).
//! - [`page`]: what a person sees: live, try, review, drift. Its statistics: [`agreement`], [`drift`], [`renewal`].
#![forbid(unsafe_code)]

pub mod agreement;
pub mod drift;
pub mod hub;
pub mod judge;
pub mod page;
pub mod record;
pub mod renewal;
pub mod serve;
pub mod watch;

pub use pbas::{Error, ErrorKind, Result};
