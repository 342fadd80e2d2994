//! A data set with its categories, whatever its layout: which layout it is, and the layouts whose categories are folders.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::folder::{no_pictures, require_folder, subfolders, walk};
use super::loco::{DEFECTS, Saturation};
use super::mvtec::{self, list};
use super::{TestSet, kolektor, manifest, pair, real_iad, visa};
use crate::{Error, Result};

const HINT: &str = "`pbas data inspect --help` names the layouts that are known; a manifest `path,split,label,mask` as CSV or JSON lines serves every other";

/// How a data set is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// MVTec AD, MPDD, VisA prepared so, and others: `train/good`, `test/<type>`, `ground_truth/<type>`.
    Mvtec,
    /// MVTec AD 2: also `validation/good`, `test_public/{good,bad}`, private tests without labels.
    MvtecAd2,
    /// MVTec LOCO: also `validation/good`, a folder of masks a picture, `defects_config.json`.
    MvtecLoco,
    /// BTAD: `train/ok`, `test/{ok,ko}`, `ground_truth/ko`.
    Btad,
    /// VisA as published: `split_csv/1cls.csv`.
    Visa,
    /// Real-IAD: a JSON split for each category, several views of a part.
    RealIad,
    /// Kolektor SDD2: `train` and `test`, a mask `<stem>_GT.png` beside every picture.
    KolektorSdd2,
    /// A folder `good` beside one or more of defects; no split.
    Pair,
    /// A CSV or JSON lines file that names every picture.
    Manifest,
}

impl Layout {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mvtec => "MVTec AD",
            Self::MvtecAd2 => "MVTec AD 2",
            Self::MvtecLoco => "MVTec LOCO",
            Self::Btad => "BTAD",
            Self::Visa => "VisA",
            Self::RealIad => "Real-IAD",
            Self::KolektorSdd2 => "Kolektor SDD2",
            Self::Pair => "good and bad folders",
            Self::Manifest => "manifest",
        }
    }
}

/// One product of a data set.
#[derive(Debug)]
pub struct Category {
    /// Its name.
    pub name: String,
    /// Good pictures to learn from, sorted.
    pub good: Vec<PathBuf>,
    /// Good pictures that the publisher keeps apart for validation; not learnt from.
    pub validation: Vec<PathBuf>,
    /// Labelled test pictures.
    pub test: TestSet,
    /// Test pictures without labels, which are of no use here.
    pub unlabelled: usize,
}

impl Category {
    /// Good pictures and a test, nothing else.
    pub(super) fn new(name: String, good: Vec<PathBuf>, test: TestSet) -> Self {
        Self { name, good, validation: Vec::new(), test, unlabelled: 0 }
    }
}

/// A data set.
#[derive(Debug)]
pub struct DataSet {
    /// How it is laid out.
    pub layout: Layout,
    /// Categories, sorted by name.
    pub categories: Vec<Category>,
    /// Categories that cannot be used, with the reason.
    pub broken: Vec<(String, Error)>,
    /// What is odd about the whole.
    pub notes: Vec<String>,
}

/// Lists a data set: a folder of categories, a single category, or a manifest file. No picture is decoded; of Kolektor SDD2 the masks are,
/// since nothing else there says what is defective.
///
/// # Errors
/// `Io` where something cannot be read; `Caller`, with a hint, where no layout is recognised; `Input` for a split file that is wrong.
pub fn open(path: &Path) -> Result<DataSet> {
    if path.is_file() {
        return manifest::open(path).map_err(|e| if e.hint().is_some() { e } else { e.with_hint(HINT) });
    }
    require_folder(path).map_err(|e| e.with_hint(HINT))?;
    if let Some(split) = visa::split_file(path) {
        return visa::open(path, &split);
    }
    if let Some(splits) = real_iad::split_files(path)? {
        return real_iad::open(path, &splits);
    }
    if kolektor::is_one(path)? {
        return kolektor::open(path);
    }
    if let Some(layout) = layout_of(path) {
        return folders(layout, vec![(name_of(path), path.to_owned(), layout)]);
    }
    let below = subfolders(path)?;
    let found: Vec<(String, PathBuf, Layout)> =
        below.iter().filter_map(|f| Some((f.name.clone(), f.path.clone(), layout_of(&f.path)?))).collect();
    if let Some(layout) = found.first().map(|f| f.2) {
        return folders(layout, found);
    }
    if below.iter().any(|f| visa::looks_like_category(&f.path)) {
        return Err(visa::without_split(path));
    }
    if pair::is_one(path)? {
        return pair::open(path, name_of(path));
    }
    Err(Error::caller(format!("`{}`: found no data set of a known layout", path.display())).with_hint(HINT))
}

/// The layout of a category that is a folder.
fn layout_of(dir: &Path) -> Option<Layout> {
    let has = |below: &str| dir.join(below).is_dir();
    match () {
        () if has("test_public") => Some(Layout::MvtecAd2),
        () if has("train/ok") => Some(Layout::Btad),
        () if dir.join(DEFECTS).is_file() => Some(Layout::MvtecLoco),
        () if has("train") && (has("train/good") || has("test")) => Some(Layout::Mvtec),
        () => None,
    }
}

/// The name of a folder, also of `.`.
pub(super) fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_stem().map_or_else(|| "category".into(), |n| n.to_string_lossy().into_owned())
}

fn folders(layout: Layout, found: Vec<(String, PathBuf, Layout)>) -> Result<DataSet> {
    let mut set = DataSet { layout, categories: Vec::new(), broken: Vec::new(), notes: Vec::new() };
    for (name, path, own) in found {
        if own != layout {
            set.notes.push(format!("`{name}` is laid out as {}, unlike the first category", own.name()));
        }
        match category(&name, &path, own) {
            Ok(category) => set.categories.push(category),
            Err(e) => set.broken.push((name, e)),
        }
    }
    Ok(set)
}

fn category(name: &str, dir: &Path, layout: Layout) -> Result<Category> {
    let (good_name, test, masks, prefix) = match layout {
        Layout::Btad => ("ok", "test", dir.join("ground_truth"), "test/"),
        Layout::MvtecAd2 => {
            let inside = dir.join("test_public").join("ground_truth");
            let masks = if inside.is_dir() { inside } else { dir.join("ground_truth") };
            ("good", "test_public", masks, "test_public/")
        }
        _ => ("good", "test", dir.join("ground_truth"), "test/"),
    };
    let root = dir.join("train").join(good_name);
    require_folder(&root)?;
    let listing = walk(&root)?;
    if listing.pictures.is_empty() {
        return Err(no_pictures("no good pictures", &root, listing.others));
    }
    let types = dir.join(test);
    require_folder(&types)?;
    let test = list(&mvtec::Layout { types, masks, prefix, good: good_name })?;
    let good = listing.pictures.into_iter().map(|p| p.path).collect();
    let mut category = Category::new(name.to_owned(), good, test);
    let validation = dir.join("validation").join("good");
    if validation.is_dir() {
        category.validation = walk(&validation)?.pictures.into_iter().map(|p| p.path).collect();
    }
    for private in ["test_private", "test_private_mixed"].map(|p| dir.join(p)).iter().filter(|p| p.is_dir()) {
        category.unlabelled += walk(private)?.pictures.len();
    }
    category.test.saturation = Saturation::of_category(dir)?;
    Ok(category)
}
