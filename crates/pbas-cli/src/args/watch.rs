//! Arguments of `pbas watch`.

/// `pbas watch`.
#[derive(Debug, clap::Args)]
pub struct Watch {}
