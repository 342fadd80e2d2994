//! Arguments of `pbas history`.

/// `pbas history`.
#[derive(Debug, clap::Args)]
pub struct History {}
