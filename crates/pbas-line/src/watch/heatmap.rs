//! Where heatmaps of a watched folder go.

use std::path::{Path, PathBuf};

use pbas::Result;
use pbas::image::Rgb8;
use pbas::report::heatmap::{file_name, write_png};

/// Where the heatmap of a part is written: its number, then its name made harmless.
#[must_use]
pub fn path(folder: &Path, id: i64, name: &str) -> PathBuf {
    // A slash in a name would make folders.
    folder.join(file_name(&format!("{id:06}-{}", name.replace('/', "_"))))
}

/// Writes a drawn heatmap; one of the same part is replaced.
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path, id: i64, name: &str, drawn: &Rgb8) -> Result<()> {
    write_png(&path(folder, id, name), drawn)
}
