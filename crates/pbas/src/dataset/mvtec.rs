//! Test sets in the layout of MVTec AD, MPDD and others: `test/<type>/*`, masks in `ground_truth/<type>/`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::folder::{Found, is_good, no_pictures, own_pictures, require_folder, subfolders, walk};
use super::{Label, Sample, Saturation, TestSet};
use crate::{Error, Result};

const TEST_HINT: &str = "expected `<category>/test/<type>/*` with masks in `<category>/ground_truth/<type>/`, \
                         or a folder `good` beside one folder for each type of defect";

/// The folder with the types, and the one with their masks.
pub(super) struct Layout {
    pub types: PathBuf,
    pub masks: PathBuf,
    /// What the types' names are put below in [`Sample::name`]: `test/` or nothing.
    pub prefix: &'static str,
    /// The type that is no defect, in any case.
    pub good: &'static str,
}

/// Lists a test set: a category with `test/<type>/*`, or that `test` folder itself, or any folder that holds `good`
/// (in any case) beside one folder for each type of defect. The mask of `test/<type>/<stem>.*` is
/// `ground_truth/<type>/<stem>_mask.*`, or else `ground_truth/<type>/<stem>.*`, or else the folder `ground_truth/<type>/<stem>/`.
///
/// Warned of: masks without a picture, pictures of defects without a mask where the set has others (they leave the pixel
/// metrics), pictures that differ in extension alone, pictures outside any type, no good pictures, no defective ones.
///
/// # Errors
/// `Io`, naming the path, where a folder is missing or cannot be read; `Caller`, with a hint, where the layout is another
/// or there is no picture; `Input` for a `defects_config.json` that is no list of defects.
pub fn test_set(dir: &Path) -> Result<TestSet> {
    require_folder(dir).map_err(|e| e.with_hint(TEST_HINT))?;
    let saturation = Saturation::of_category(dir)?;
    Ok(TestSet { saturation, ..list(&Layout::of(dir)?)? })
}

/// [`test_set`] of a layout.
pub(super) fn list(layout: &Layout) -> Result<TestSet> {
    let mut warnings = Vec::new();
    let mut masks = Masks::below(&layout.masks)?;
    let mut samples = Vec::new();
    let mut others = 0;

    let loose = own_pictures(&layout.types)?.len();
    if loose > 0 {
        warnings.push(format!(
            "{loose} picture(s) directly in `{}` belong to no type and are left out",
            layout.types.display()
        ));
    }
    for folder in layout.type_folders()? {
        let listing = walk(&folder.path)?;
        others += listing.others;
        warn_of_twins(&layout.name(&folder.name, ""), &listing.pictures, &mut warnings);
        let good = folder.name.eq_ignore_ascii_case(layout.good);
        for picture in listing.pictures {
            // A good picture's mask, which some sets have, is all zero; looking it up marks it as used.
            let mask = masks.take(&folder.name, &picture.name).filter(|_| !good);
            samples.push(Sample {
                name: layout.name(&folder.name, &picture.name),
                path: picture.path,
                label: if good { Label::Good } else { Label::Defective },
                defect_type: if good { "good".into() } else { folder.name.clone() },
                mask,
            });
        }
    }
    if samples.is_empty() {
        return Err(no_pictures("no test pictures", &layout.types, others).with_hint(TEST_HINT));
    }
    samples.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));

    if samples.iter().any(|s| s.mask.is_some()) {
        let without = samples.iter().filter(|s| s.label == Label::Defective && s.mask.is_none());
        warnings.extend(without.map(|s| {
            format!("`{}` is defective and has no mask: it is left out of the pixel metrics", s.name)
        }));
    }
    warnings.extend(masks.unused().map(|path| format!("mask `{}` belongs to no picture", path.display())));

    let set = TestSet { samples, warnings: Vec::new(), saturation: None };
    for (label, word) in [(Label::Good, "good"), (Label::Defective, "defective")] {
        if set.count(label) == 0 {
            warnings
                .push(format!("no {word} pictures in `{}`: AUROC is not defined", layout.types.display()));
        }
    }
    Ok(TestSet { warnings, ..set })
}

impl Layout {
    fn of(dir: &Path) -> Result<Self> {
        let test = dir.join("test");
        if test.is_dir() {
            return Ok(Self { types: test, masks: dir.join("ground_truth"), prefix: "test/", good: "good" });
        }
        let is_test = dir.file_name().is_some_and(|n| n.eq_ignore_ascii_case("test"));
        let folders = subfolders(dir)?;
        if folders.iter().any(|f| f.name.eq_ignore_ascii_case("train"))
            || !(is_test || folders.iter().any(|f| is_good(&f.name)))
        {
            return Err(Error::caller(format!("no test set in `{}`", dir.display())).with_hint(TEST_HINT));
        }
        let beside = dir.parent().map(|p| p.join("ground_truth")).filter(|p| is_test && p.is_dir());
        Ok(Self {
            types: dir.to_path_buf(),
            masks: beside.unwrap_or_else(|| dir.join("ground_truth")),
            prefix: "",
            good: "good",
        })
    }

    fn type_folders(&self) -> Result<Vec<Found>> {
        let mut folders = subfolders(&self.types)?;
        folders.retain(|f| !f.name.eq_ignore_ascii_case("ground_truth"));
        Ok(folders)
    }

    fn name(&self, defect_type: &str, picture: &str) -> String {
        format!("{}{defect_type}/{picture}", self.prefix)
    }
}

/// The masks of a set, by type and name.
struct Masks {
    /// (type, path below it without extension) -> masks of that name, and whether each is used.
    by_stem: BTreeMap<(String, String), Vec<(PathBuf, bool)>>,
}

impl Masks {
    /// None where the folder is missing: a set without masks is a set for image metrics.
    fn below(dir: &Path) -> Result<Self> {
        let mut by_stem: BTreeMap<_, Vec<_>> = BTreeMap::new();
        if dir.is_dir() {
            for folder in subfolders(dir)? {
                for mask in walk(&folder.path)?.pictures {
                    let key = (folder.name.clone(), stem(&mask.name).to_string());
                    by_stem.entry(key).or_default().push((mask.path, false));
                }
            }
        }
        Ok(Self { by_stem })
    }

    /// The mask of a picture, which is used from now on.
    fn take(&mut self, defect_type: &str, picture: &str) -> Option<PathBuf> {
        let stem = stem(picture);
        for name in [format!("{stem}_mask"), stem.to_string()] {
            if let Some(masks) = self.by_stem.get_mut(&(defect_type.to_string(), name)) {
                masks[0].1 = true;
                return Some(masks[0].0.clone());
            }
        }
        self.take_folder(defect_type, stem)
    }

    /// Several masks of one picture, in a folder of its name (MVTec LOCO): that folder.
    fn take_folder(&mut self, defect_type: &str, stem: &str) -> Option<PathBuf> {
        let below = format!("{stem}/");
        let first = (defect_type.to_owned(), below.clone());
        let of_picture = self
            .by_stem
            .range_mut(first..)
            .take_while(|((t, name), _)| t == defect_type && name.starts_with(&below));
        let mut folder = None;
        for (_, masks) in of_picture {
            masks.iter_mut().for_each(|m| m.1 = true);
            folder = masks[0].0.parent().map(Path::to_path_buf);
        }
        folder
    }

    fn unused(&self) -> impl Iterator<Item = &Path> {
        self.by_stem.values().flatten().filter(|(_, used)| !used).map(|(path, _)| path.as_path())
    }
}

/// A path below a folder without its extension.
fn stem(name: &str) -> &str {
    // A picture's name always has an extension.
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn warn_of_twins(folder: &str, pictures: &[Found], warnings: &mut Vec<String>) {
    let mut first: HashMap<&str, &str> = HashMap::new();
    for picture in pictures {
        if let Some(other) = first.insert(stem(&picture.name), &picture.name) {
            warnings.push(format!(
                "`{folder}{other}` and `{folder}{}` differ in extension alone: both are kept",
                picture.name
            ));
        }
    }
}
