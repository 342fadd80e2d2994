//! `pbas history`.

use pbas::{Error, Result};

use crate::args::History;
use crate::output::{Printer, Status};

/// Runs the command.
///
/// # Errors
/// Always, as yet.
pub fn run(_args: &History, _printer: Printer) -> Result<Status> {
    Err(Error::unsupported("`history` is not written yet"))
}
