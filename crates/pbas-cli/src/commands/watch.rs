//! `pbas watch`.

use pbas::{Error, Result};

use crate::args::Watch;
use crate::output::{Printer, Status};

/// Runs the command.
///
/// # Errors
/// Always, as yet.
pub fn run(_args: &Watch, _printer: Printer) -> Result<Status> {
    Err(Error::unsupported("`watch` is not written yet"))
}
