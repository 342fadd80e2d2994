//! `pbas serve`.

use pbas::{Error, Result};

use crate::args::Serve;
use crate::output::{Printer, Status};

/// Runs the command.
///
/// # Errors
/// Always, as yet.
pub fn run(_args: &Serve, _printer: Printer) -> Result<Status> {
    Err(Error::unsupported("`serve` is not written yet"))
}
