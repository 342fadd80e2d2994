//! Defects whose areas are given one by one, with how much of each has to be found (MVTec LOCO).

use std::path::Path;

use super::decode::{masks_of, read_grey};
use super::{DecodeOptions, DefectMask};
use crate::{Error, Result};

/// An area of a picture that is defective by itself. Areas of one picture may overlap, and need not be connected.
#[derive(Debug, Clone, PartialEq)]
pub struct DefectArea {
    /// Its pixels.
    pub mask: DefectMask,
    /// Part of them, above 0 and at most 1, that counts as all of them: to have found the place of a missing part is enough, wherever one looks.
    pub enough: f64,
}

/// Reads the areas of a picture: of one mask file or of a folder of them, one for each grey value above 0 of each file.
/// `enough(value, pixels)` says which part of an area of this value and so many pixels of the picture is enough.
///
/// # Errors
/// As [`super::read_rgb`]; masks of different sizes; a grey value of which `enough` says nothing.
pub fn read_areas(
    path: &Path,
    options: &DecodeOptions,
    enough: impl Fn(u8, usize) -> Option<f64>,
) -> Result<Vec<DefectArea>> {
    let mut areas: Vec<DefectArea> = Vec::new();
    for file in masks_of(path)? {
        let (width, height, data) = read_grey(&file, options)?;
        let mut counts = [0usize; 256];
        data.iter().for_each(|&v| counts[usize::from(v)] += 1);
        for value in (1..=255u8).filter(|v| counts[usize::from(*v)] > 0) {
            let enough = enough(value, counts[usize::from(value)]).ok_or_else(|| {
                Error::input(format!(
                    "mask `{}`: expected grey values that the list of defects has, found {value}",
                    file.display()
                ))
            })?;
            let data = data.iter().map(|&v| u8::from(v == value)).collect();
            areas.push(DefectArea { mask: DefectMask { width, height, data }, enough });
        }
    }
    if !areas.is_empty() {
        union(areas.iter().map(|a| &a.mask), path)?;
    }
    Ok(areas)
}

/// What any of the masks of a picture says is defective; `path` is where they lie.
///
/// # Errors
/// Masks of different sizes, or none.
pub fn union<'a>(masks: impl IntoIterator<Item = &'a DefectMask>, path: &Path) -> Result<DefectMask> {
    let mut all: Option<DefectMask> = None;
    for mask in masks {
        match &mut all {
            None => all = Some(mask.clone()),
            Some(all) if (all.width, all.height) == (mask.width, mask.height) => {
                all.data.iter_mut().zip(&mask.data).for_each(|(a, m)| *a |= m);
            }
            Some(all) => {
                return Err(Error::input(format!(
                    "masks `{}`: expected {} x {} pixels in all of them, found {} x {}",
                    path.display(),
                    all.width,
                    all.height,
                    mask.width,
                    mask.height
                )));
            }
        }
    }
    all.ok_or_else(|| Error::input(format!("`{}`: expected masks, found none", path.display())))
}
