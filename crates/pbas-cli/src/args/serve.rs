//! Arguments of `pbas serve`.

/// `pbas serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {}
