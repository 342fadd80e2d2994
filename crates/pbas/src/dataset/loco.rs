//! MVTec LOCO's list of defects: how much of an area has to be found. A logical defect, such as a missing pin, is marked wherever it could be
//! found, which is far larger than what anybody needs to point at.
//!
//! Source: Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization", IJCV 2022.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// The file of a category.
pub(super) const DEFECTS: &str = "defects_config.json";

/// How much of an area is enough, by the grey value that masks have there.
#[derive(Debug, Clone, PartialEq)]
pub struct Saturation {
    by_value: BTreeMap<u8, Threshold>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Threshold {
    /// So many pixels of the picture.
    Pixels(f64),
    /// This part of the area.
    Share(f64),
}

/// An entry of the file; what else it holds is for people.
#[derive(Deserialize)]
struct Defect {
    pixel_value: u64,
    saturation_threshold: f64,
    relative_saturation: bool,
}

impl Saturation {
    /// The list of a category, if it has one.
    ///
    /// # Errors
    /// A file that cannot be read, is no list of defects, or holds a value out of range or twice.
    pub(super) fn of_category(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(DEFECTS);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(|e| Error::io("cannot read", &path, e))?;
        Self::parse(&text).map(Some).map_err(|e| e.context(format!("cannot use `{}`", path.display())))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let defects: Vec<Defect> = serde_json::from_slice(text).map_err(|e| {
            Error::input("expected a list of defects with `pixel_value`, `saturation_threshold` and `relative_saturation`")
                .with_source(e)
        })?;
        let mut by_value = BTreeMap::new();
        for d in defects {
            let value = u8::try_from(d.pixel_value).ok().filter(|v| *v > 0).ok_or_else(|| {
                Error::input(format!("`pixel_value`: expected 1 to 255, found {}", d.pixel_value))
            })?;
            let (most, unit) = if d.relative_saturation { (1.0, "at most 1") } else { (1e12, "pixels") };
            if !(d.saturation_threshold > 0.0 && d.saturation_threshold <= most) {
                return Err(Error::input(format!(
                    "`saturation_threshold` of `pixel_value` {value}: expected above 0 and {unit}, found {}",
                    d.saturation_threshold
                )));
            }
            let threshold = if d.relative_saturation { Threshold::Share } else { Threshold::Pixels };
            if by_value.insert(value, threshold(d.saturation_threshold)).is_some() {
                return Err(Error::input(format!("`pixel_value` {value}: expected once, found twice")));
            }
        }
        Ok(Self { by_value })
    }

    /// The part, above 0 and at most 1, that is enough of an area of `pixels` of the picture whose mask has this value: whole pixels, at
    /// least one. `None` for a value that is not in the list.
    #[must_use]
    pub fn enough(&self, value: u8, pixels: usize) -> Option<f64> {
        let all = pixels as f64;
        let wanted = match *self.by_value.get(&value)? {
            Threshold::Pixels(n) => n.min(all),
            Threshold::Share(share) => (share * all).floor(),
        };
        Some(wanted.max(1.0) / all.max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_pixels_or_shares() {
        let text = br#"[{"defect_name": "missing_pin", "pixel_value": 255, "saturation_threshold": 60, "relative_saturation": false},
            {"defect_name": "scratch", "pixel_value": 7, "saturation_threshold": 0.25, "relative_saturation": true}]"#;
        let s = Saturation::parse(text).unwrap();
        assert_eq!(s.enough(255, 240), Some(0.25));
        assert_eq!(s.enough(255, 30), Some(1.0), "an area smaller than what is enough has to be found whole");
        assert_eq!(s.enough(7, 10), Some(0.2), "whole pixels");
        assert_eq!(s.enough(7, 2), Some(0.5), "at least one");
        assert_eq!(s.enough(8, 10), None);
    }

    #[test]
    fn other_lists_are_refused() {
        let one = |value: &str, threshold: &str, relative: &str| {
            format!(
                r#"[{{"pixel_value": {value}, "saturation_threshold": {threshold}, "relative_saturation": {relative}}}]"#
            )
        };
        for (text, said) in [
            ("{}".to_owned(), "expected a list of defects"),
            (r#"[{"pixel_value": 3}]"#.to_owned(), "expected a list of defects"),
            (one("0", "1", "true"), "`pixel_value`: expected 1 to 255, found 0"),
            (one("300", "1", "true"), "found 300"),
            (one("3", "0", "false"), "expected above 0 and pixels, found 0"),
            (one("3", "1.5", "true"), "expected above 0 and at most 1, found 1.5"),
            (
                one("3", "1", "true").replace("}]", "},") + &one("3", "1", "true")[1..],
                "expected once, found twice",
            ),
        ] {
            let e = Saturation::parse(text.as_bytes()).unwrap_err();
            assert!(e.to_string().contains(said), "{said}: {e}");
        }
    }
}
