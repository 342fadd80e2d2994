//! Real-IAD: for each category a JSON file with its split, in a folder `realiad_jsons*`; pictures in `realiad_<size>/<category>/` or
//! `<category>/`. A part is photographed from several views (`_C1_` .. `_C5_` in the name); each picture counts by itself.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::folder::subfolders;
use super::split::{Entry, Part, categories};
use super::{DataSet, Layout};
use crate::{Error, Result};

/// The parts of a split file that are needed.
#[derive(Deserialize)]
struct Split {
    meta: Meta,
    train: Vec<Picture>,
    test: Vec<Picture>,
}

#[derive(Deserialize)]
struct Meta {
    normal_class: String,
    prefix: String,
}

#[derive(Deserialize)]
struct Picture {
    category: String,
    anomaly_class: String,
    image_path: String,
    mask_path: Option<String>,
}

/// The split files, where there are any; of several kinds of split (with defects in training, for instance) the plain one.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn split_files(dir: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Some(folder) = subfolders(dir)?.into_iter().find(|f| f.name.starts_with("realiad_jsons")) else {
        return Ok(None);
    };
    let inner = folder.path.join("realiad_jsons");
    let folder = if inner.is_dir() { inner } else { folder.path };
    let entries = std::fs::read_dir(&folder).map_err(|e| Error::io("cannot read folder", &folder, e))?;
    let is_json = |p: &PathBuf| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_json).collect();
    files.sort();
    Ok(Some(files))
}

/// Lists it.
///
/// # Errors
/// A split file of another shape, or none.
pub(super) fn open(dir: &Path, splits: &[PathBuf]) -> Result<DataSet> {
    let mut roots: Vec<PathBuf> = subfolders(dir)?
        .into_iter()
        .filter(|f| f.name.starts_with("realiad_") && !f.name.starts_with("realiad_jsons"))
        .map(|f| f.path)
        .collect();
    roots.push(dir.to_owned());
    let mut entries = Vec::new();
    for file in splits {
        let bytes = std::fs::read(file).map_err(|e| Error::io("cannot read", file, e))?;
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let split: Split = serde_json::from_slice(text).map_err(|e| {
            Error::input(format!("`{}`: expected a split of Real-IAD (meta, train, test)", file.display()))
                .with_source(e)
        })?;
        let prefix = split.meta.prefix.replace('\\', "/");
        let prefix = prefix.trim_end_matches('/');
        // The same pictures may lie there at several sizes: the first folder that has the category.
        let root =
            roots.iter().map(|r| r.join(prefix)).find(|r| r.is_dir()).unwrap_or_else(|| dir.join(prefix));
        let parts = split
            .train
            .into_iter()
            .map(|p| (Part::Train, p))
            .chain(split.test.into_iter().map(|p| (Part::Test, p)));
        for (part, picture) in parts {
            let good = picture.anomaly_class == split.meta.normal_class;
            let name = picture.image_path.replace('\\', "/");
            entries.push(Entry {
                category: picture.category,
                part,
                defect_type: if good { "good".into() } else { picture.anomaly_class },
                path: root.join(&name),
                name,
                mask: picture.mask_path.filter(|m| !m.is_empty()).map(|m| root.join(m.replace('\\', "/"))),
            });
        }
    }
    categories(Layout::RealIad, entries, splits.first().map_or(dir, |f| f.parent().unwrap_or(dir)))
}
