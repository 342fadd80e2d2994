//! Walking folders: the good pictures to learn from, the inputs of a prediction.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::image::is_picture_path;
use crate::{Error, Result};

const GOOD_HINT: &str =
    "expected `<category>/train/good/*.{png,jpg,bmp,tif,webp}` or a plain folder of good pictures";

/// A picture found below a folder.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Relative to the folder, with `/`.
    pub name: String,
    pub path: PathBuf,
}

/// What lies below a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Sorted by the bytes of the name.
    pub pictures: Vec<Found>,
    /// How many files are no pictures by their names.
    pub others: usize,
}

/// The pictures to learn from. Of an MVTec-layout category those in `train/good` alone; of any other folder all, with
/// its subfolders. Sorted by the path below the folder, as bytes.
///
/// # Errors
/// `Io`, naming the path, where a folder is missing or cannot be read; `Caller`, with a hint, where `dir` is not a folder,
/// holds no picture, or also holds defects: it has a `test` folder but no `train/good`, or `good` beside other types.
pub fn good_pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    require_folder(dir).map_err(|e| e.with_hint(GOOD_HINT))?;
    let train_good = dir.join("train").join("good");
    let root = if train_good.is_dir() {
        train_good.as_path()
    } else {
        refuse_defects(dir)?;
        dir
    };
    let listing = walk(root)?;
    if listing.pictures.is_empty() {
        return Err(no_pictures("no good pictures", root, listing.others).with_hint(GOOD_HINT));
    }
    Ok(listing.pictures.into_iter().map(|p| p.path).collect())
}

/// The pictures to look at: a file as it is (even one that cannot be read: its reader will say so), a folder as
/// all pictures in it and its subfolders, sorted. The order of `paths` is kept.
///
/// # Errors
/// `Caller` for a folder without pictures, `Io` for one that cannot be read; both name it.
pub fn expand_inputs(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut inputs = Vec::new();
    for path in paths {
        if !path.is_dir() {
            inputs.push(path.clone());
            continue;
        }
        let listing = walk(path)?;
        if listing.pictures.is_empty() {
            return Err(no_pictures("no pictures", path, listing.others)
                .with_hint("expected files or folders with *.{png,jpg,bmp,tif,webp}"));
        }
        inputs.extend(listing.pictures.into_iter().map(|p| p.path));
    }
    Ok(inputs)
}

/// Defective pictures taken for good ones would spoil a model without a word.
fn refuse_defects(dir: &Path) -> Result<()> {
    let shown = dir.display();
    if dir.join("test").is_dir() {
        return Err(Error::caller(format!(
            "`{shown}` has a `test` folder but no `train/good`: its pictures may show defects"
        ))
        .with_hint(GOOD_HINT));
    }
    let folders = subfolders(dir)?;
    let (good, others): (Vec<_>, Vec<_>) = folders.iter().partition(|f| is_good(&f.name));
    for other in others.iter().filter(|_| !good.is_empty()) {
        if !walk(&other.path)?.pictures.is_empty() {
            return Err(Error::caller(format!(
                "`{shown}` has pictures in `{}` beside those in `{}`: they may show defects",
                other.name, good[0].name
            ))
            .with_hint(format!("to learn from the good ones, give `{}`", good[0].path.display())));
        }
    }
    Ok(())
}

/// Whether a type's folder holds good pictures.
pub(super) fn is_good(name: &str) -> bool {
    name.eq_ignore_ascii_case("good")
}

pub(super) fn require_folder(dir: &Path) -> Result<()> {
    let metadata = fs::metadata(dir).map_err(|e| Error::io("cannot open folder", dir, e))?;
    if !metadata.is_dir() {
        return Err(Error::caller(format!("`{}`: expected a folder, found a file", dir.display())));
    }
    Ok(())
}

/// The error for a folder without pictures: empty, or of other files.
pub(super) fn no_pictures(what: &str, dir: &Path, others: usize) -> Error {
    let found = match others {
        0 => "it is empty".to_string(),
        1 => "it holds 1 file of another kind".to_string(),
        n => format!("it holds {n} files of other kinds"),
    };
    Error::caller(format!("{what} in `{}`: {found}", dir.display()))
}

/// One thing in a folder.
struct Entry {
    name: String,
    path: PathBuf,
    /// `None` where the metadata cannot be read, as for a dangling link.
    kind: Option<fs::FileType>,
}

impl Entry {
    fn is_dir(&self) -> bool {
        self.kind.is_some_and(|k| k.is_dir())
    }
}

/// What is directly in a folder and not passed over, sorted by the bytes of the name.
fn entries(dir: &Path) -> Result<Vec<Entry>> {
    let io = |e| Error::io("cannot read folder", dir, e);
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_passed_over(&name) {
            continue;
        }
        let path = entry.path();
        let kind = fs::metadata(&path).ok().map(|m| m.file_type());
        entries.push(Entry { name, path, kind });
    }
    entries.sort_by(|a, b| (a.name.as_bytes(), &a.path).cmp(&(b.name.as_bytes(), &b.path)));
    Ok(entries)
}

fn is_passed_over(name: &str) -> bool {
    const LEFT_BEHIND: [&str; 6] =
        ["Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"];
    name.starts_with('.') || LEFT_BEHIND.iter().any(|l| name.eq_ignore_ascii_case(l))
}

/// The folders directly in a folder (hidden ones left out), sorted.
pub(super) fn subfolders(dir: &Path) -> Result<Vec<Found>> {
    let folders = entries(dir)?.into_iter().filter(Entry::is_dir);
    Ok(folders.map(|e| Found { name: e.name, path: e.path }).collect())
}

/// The pictures directly in a folder, by name.
pub(super) fn own_pictures(dir: &Path) -> Result<Vec<Found>> {
    let files = entries(dir)?.into_iter().filter(|e| !e.is_dir() && is_picture(e));
    Ok(files.map(|e| Found { name: e.name, path: e.path }).collect())
}

/// A file that can be opened or at least named: a dangling link is kept for the reader to report, a pipe is not.
fn is_picture(entry: &Entry) -> bool {
    is_picture_path(&entry.path) && entry.kind.is_none_or(|k| k.is_file())
}

/// All pictures in a folder and its subfolders.
pub(super) fn walk(dir: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut seen = HashSet::new();
    let mut waiting = vec![Found { name: String::new(), path: dir.to_path_buf() }];
    while let Some(folder) = waiting.pop() {
        let io = |e| Error::io("cannot read folder", &folder.path, e);
        // A link may lead back to a folder above it, or to one already listed.
        if !seen.insert(fs::canonicalize(&folder.path).map_err(io)?) {
            continue;
        }
        let mut below = Vec::new();
        for entry in entries(&folder.path)? {
            let is_dir = entry.is_dir();
            let is_picture = is_picture(&entry);
            let name = match folder.name.as_str() {
                "" => entry.name,
                parent => format!("{parent}/{}", entry.name),
            };
            let found = Found { name, path: entry.path };
            match (is_dir, is_picture) {
                (true, _) => below.push(found),
                (false, true) => listing.pictures.push(found),
                (false, false) => listing.others += 1,
            }
        }
        // The last one in is the first one out: folders are visited in sorted order.
        waiting.extend(below.into_iter().rev());
    }
    listing.pictures.sort_by(|a, b| (a.name.as_bytes(), &a.path).cmp(&(b.name.as_bytes(), &b.path)));
    Ok(listing)
}
