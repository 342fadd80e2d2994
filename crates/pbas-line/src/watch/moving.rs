//! Moving a file, so that it can be done again after a kill at any moment.
//!
//! Nothing is ever overwritten: where the folder holds another file of the name, the part's number is put before the ending.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use pbas::{Error, Result};

use super::scan::{done_names, state};
use crate::record::ledger::Taken;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Moved {
    /// It lies there now.
    To(PathBuf),
    /// There is nothing to move any more, and why.
    Never(String),
}

/// Moves the file of part `id` into `folder`.
///
/// # Errors
/// The folder cannot be written at present: to be tried again.
pub fn move_file(taken: &Taken, id: i64, folder: &Path) -> Result<Moved> {
    let targets = targets(&taken.path, id, folder);
    let there = |path: &Path| state(path) == Some((taken.size, taken.mtime_ns));
    match state(&taken.path) {
        None => {
            // Moved before, and not noted; or somebody else took it.
            return Ok(match targets.into_iter().rev().find(|t| there(t)) {
                Some(target) => Moved::To(target),
                None => Moved::Never("the file is not there any more".to_owned()),
            });
        }
        Some(found) if found != (taken.size, taken.mtime_ns) => {
            return Ok(Moved::Never("another file has taken its place".to_owned()));
        }
        Some(_) => {}
    }
    let [plain, numbered] = targets;
    let target = if there(&numbered) || exists(&plain) && !there(&plain) { numbered } else { plain };
    let cannot = |e| Error::io("cannot move a file to", &target, e);
    if there(&target) {
        // The same size and time: a copy that was complete when the process was killed.
        if same_content(&taken.path, &target).map_err(cannot)? {
            fs::remove_file(&taken.path).map_err(cannot)?;
            return Ok(Moved::To(target));
        }
        return Err(cannot(io::ErrorKind::AlreadyExists.into()));
    }
    match fs::rename(&taken.path, &target) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            copy(taken, &target).map_err(cannot)?;
            fs::remove_file(&taken.path).map_err(cannot)?;
        }
        Err(e) => return Err(cannot(e)),
    }
    // Its mark would otherwise stand for the next picture of the name.
    for name in done_names(&taken.path) {
        let mark = taken.path.with_file_name(name);
        if exists(&mark) {
            fs::remove_file(&mark).map_err(|e| Error::io("cannot remove", &mark, e))?;
        }
    }
    Ok(Moved::To(target))
}

/// Under its own name, or with the part's number.
fn targets(path: &Path, id: i64, folder: &Path) -> [PathBuf; 2] {
    let mut numbered: OsString = path.file_stem().unwrap_or_default().to_owned();
    numbered.push(format!(".{id}"));
    if let Some(extension) = path.extension() {
        numbered.push(".");
        numbered.push(extension);
    }
    [folder.join(path.file_name().unwrap_or_default()), folder.join(numbered)]
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// To another device: under a hidden name first, with the time of the original.
fn copy(taken: &Taken, target: &Path) -> io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new().prefix(".moving-").suffix(".tmp").tempfile_in(folder)?;
    let mut from = File::open(&taken.path)?;
    let metadata = from.metadata()?;
    io::copy(&mut from, temporary.as_file_mut())?;
    temporary.as_file().set_modified(metadata.modified()?)?;
    temporary.as_file().set_permissions(metadata.permissions())?;
    temporary.as_file().sync_all()?;
    temporary.persist_noclobber(target).map(drop).map_err(|e| e.error)
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    Ok(fs::read(a)? == fs::read(b)?)
}
