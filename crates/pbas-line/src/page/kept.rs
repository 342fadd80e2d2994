//! A model file gives way to another and is kept beside it: `part.pbas.kept-OLD-before-NEW`, with the first digits of both digests, so
//! that what is taken back is what stood there before, and not before something else.

use std::io::Write;
use std::path::{Path, PathBuf};

use pbas::detector::Model;
use pbas::{Error, Result, model_file};
use sha2::{Digest, Sha256};

use crate::judge::{Judge, hex};

/// Digits of a digest in a file's name.
const DIGITS: usize = 8;

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    path.with_file_name(name)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))
}

/// Writes a file whole or not at all, with the rights of `like`.
fn write(path: &Path, bytes: &[u8], like: &Path) -> Result<()> {
    let fail = |e: std::io::Error| Error::io("cannot write", path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().prefix(".pbas-").suffix(".tmp").tempfile_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    let rights = std::fs::metadata(like).map_err(|e| Error::io("cannot read", like, e))?.permissions();
    file.as_file().set_permissions(rights).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

/// The bytes of a model's file, which must still be the one in service.
fn in_service(judge: &Judge) -> Result<Vec<u8>> {
    let bytes = read(&judge.path)?;
    if digest(&bytes) != judge.digest {
        return Err(Error::caller(format!(
            "model file `{}`: expected the one in service, found another",
            judge.path.display()
        ))
        .with_hint("somebody has just replaced it; look again once it is in service"));
    }
    Ok(bytes)
}

/// What [`undo`] would bring back of the model in service: the kept file.
pub(super) fn before(judge: &Judge) -> Option<PathBuf> {
    let ending = format!("-before-{}", judge.digest.get(..DIGITS)?);
    let begins = format!("{}.kept-", judge.path.file_name()?.to_str()?);
    let folder = judge.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_kept = |name: &str| name.starts_with(&begins) && name.ends_with(&ending);
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_kept))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.pop()
}

/// Writes `new` over the file of the model in service, which is kept beside it, and loads it. If it cannot be loaded, the old file is put
/// back.
///
/// # Errors
/// The file is no longer the one in service, cannot be read or written, or what was written cannot be loaded.
pub(super) fn replace(judge: &Judge, new: &Model) -> Result<Judge> {
    let old = in_service(judge)?;
    let bytes = model_file::to_bytes(new)?;
    model_file::from_bytes(&bytes, &judge.path.display().to_string())?;
    let (from, to) = (&judge.digest[..DIGITS], digest(&bytes));
    let kept = beside(&judge.path, &format!(".kept-{from}-before-{}", &to[..DIGITS]));
    write(&kept, &old, &judge.path)?;
    write(&judge.path, &bytes, &judge.path)?;
    load_or(judge, || {
        write(&judge.path, &old, &kept)?;
        remove(&kept)
    })
}

/// Brings back the model that the one in service replaced; the one in service is kept as `part.pbas.undone-DIGEST`.
///
/// # Errors
/// Nothing was kept, or as [`replace`].
pub(super) fn undo(judge: &Judge) -> Result<Judge> {
    let Some(kept) = before(judge) else {
        return Err(Error::caller(format!("model `{}`: there is no earlier one to go back to", judge.name)));
    };
    let new = in_service(judge)?;
    let old = read(&kept)?;
    model_file::from_bytes(&old, &kept.display().to_string())?;
    let undone = beside(&judge.path, &format!(".undone-{}", &judge.digest[..DIGITS]));
    write(&undone, &new, &judge.path)?;
    write(&judge.path, &old, &kept)?;
    let loaded = load_or(judge, || write(&judge.path, &new, &undone))?;
    remove(&kept)?;
    Ok(loaded)
}

fn load_or(judge: &Judge, back: impl FnOnce() -> Result<()>) -> Result<Judge> {
    match Judge::load(&judge.path) {
        // A model may be in service under another name than its file's.
        Ok(mut loaded) => {
            loaded.name.clone_from(&judge.name);
            Ok(loaded)
        }
        Err(e) => match back() {
            Ok(()) => Err(e.context("the new model cannot be loaded; the old one is back")),
            Err(worse) => {
                Err(worse.context(format!("the new model cannot be loaded ({e}), nor the old one put back")))
            }
        },
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|e| Error::io("cannot remove", path, e))
}
