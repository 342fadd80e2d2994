//! Kolektor SDD2: `train` and `test` hold pictures `<n>.png`, each with its mask `<n>_GT.png` beside it. What is defective is said by the
//! masks alone, so these (not the pictures) are read to list the set. Defective pictures for training are left out.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;

use super::folder::{Found, own_pictures};
use super::split::{Entry, Part, categories};
use super::{DataSet, Layout};
use crate::image::{DecodeOptions, read_mask};
use crate::{Error, Result};

const MASK: &str = "_GT";

/// Whether `train` holds pictures with masks beside them.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn is_one(dir: &Path) -> Result<bool> {
    let train = dir.join("train");
    if !train.is_dir() || !dir.join("test").is_dir() {
        return Ok(false);
    }
    Ok(own_pictures(&train)?.iter().any(|p| stem(&p.name).ends_with(MASK)))
}

/// Lists it.
///
/// # Errors
/// A mask that cannot be read.
pub(super) fn open(dir: &Path) -> Result<DataSet> {
    let (mut entries, mut notes) = (Vec::new(), Vec::new());
    for (part, name) in [(Part::Train, "train"), (Part::Test, "test")] {
        let all = own_pictures(&dir.join(name))?;
        let (masks, pictures): (Vec<Found>, Vec<Found>) =
            all.into_iter().partition(|p| stem(&p.name).ends_with(MASK));
        let stems: HashSet<&str> = masks.iter().map(|m| stem(&m.name).trim_end_matches(MASK)).collect();
        let (with, without): (Vec<Found>, Vec<Found>) =
            pictures.into_iter().partition(|p| stems.contains(stem(&p.name)));
        if let Some(first) = without.first() {
            notes.push(format!(
                "{} picture(s) in `{name}` without a mask are left out, since nothing says whether they are good: `{}`",
                without.len(),
                first.name
            ));
        }
        let read = |picture: Found| -> Result<Entry> {
            let mask = masks.iter().find(|m| stem(&m.name).strip_suffix(MASK) == Some(stem(&picture.name)));
            let mask =
                mask.ok_or_else(|| Error::input(format!("`{}` has no mask", picture.name)))?.path.clone();
            let good = !read_mask(&mask, &DecodeOptions::default())?.data.contains(&1);
            Ok(Entry {
                category: super::set::name_of(dir),
                part,
                defect_type: if good { "good".into() } else { "defect".into() },
                path: picture.path,
                name: format!("{name}/{}", picture.name),
                mask: Some(mask),
            })
        };
        entries.extend(with.into_par_iter().map(read).collect::<Result<Vec<_>>>()?);
    }
    let mut set = categories(Layout::KolektorSdd2, entries, dir)?;
    set.notes = notes;
    Ok(set)
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
