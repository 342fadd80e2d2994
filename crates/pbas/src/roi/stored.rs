//! How a region is kept in the JSON of a model file: lengths of runs, as base64 of variable-length integers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{LONGEST, Roi};
use crate::preprocess::InputSize;
use crate::{Error, Result};

/// The JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    source: String,
    width: usize,
    height: usize,
    /// Colour of the outside, R G B.
    fill: [u8; 3],
    /// Lengths of runs in row-major order, outside and inside in turn, the first outside: seven bits a byte, the lowest first,
    /// the eighth bit set on all but the last byte of a number; in base64.
    runs: String,
}

impl From<Roi> for Stored {
    fn from(roi: Roi) -> Self {
        let mut bytes = Vec::new();
        let mut end = |mut length: usize| {
            while length > 0x7f {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
        };
        let (mut current, mut length) = (false, 0);
        for &inside in roi.inside.iter() {
            if inside != current {
                end(length);
                (current, length) = (inside, 0);
            }
            length += 1;
        }
        end(length);
        let InputSize { height, width } = roi.size;
        Self { source: roi.source, width, height, fill: roi.fill, runs: STANDARD.encode(bytes) }
    }
}

impl TryFrom<Stored> for Roi {
    type Error = Error;

    fn try_from(s: Stored) -> Result<Self> {
        let wrong = |what: &str| Error::input(format!("region of interest: {what}"));
        let bytes = STANDARD.decode(&s.runs).map_err(|e| wrong("runs: expected base64").with_source(e))?;
        if !(1..=LONGEST).contains(&s.width) || !(1..=LONGEST).contains(&s.height) {
            return Err(wrong(&format!(
                "expected sides of 1 to {LONGEST} pixels, found {} x {}",
                s.width, s.height
            )));
        }
        let total = s.width * s.height;
        let mut inside = Vec::with_capacity(total);
        let (mut current, mut length, mut shift) = (false, 0usize, 0);
        for byte in bytes {
            if shift > 28 {
                return Err(wrong("runs: expected numbers of at most five bytes"));
            }
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                if length > total - inside.len() {
                    return Err(wrong("runs: expected as many pixels as the size says, found more"));
                }
                inside.resize(inside.len() + length, current);
                (current, length, shift) = (!current, 0, 0);
            }
        }
        if inside.len() != total || shift != 0 {
            return Err(wrong(&format!("runs: expected {total} pixels, found {}", inside.len())));
        }
        let roi = Self::new(InputSize { height: s.height, width: s.width }, inside, &s.source)?;
        Ok(Self { fill: s.fill, ..roi })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_damage_is_refused() {
        for (width, height, every) in [(1, 1, 1), (5, 3, 2), (300, 200, 7), (640, 480, 50_000)] {
            for first in [0, 1] {
                let inside = (0..width * height).map(|i| (i / every) % 2 == first).collect::<Vec<_>>();
                let Ok(mut roi) = Roi::new(InputSize { height, width }, inside, "m.png") else { continue };
                roi.fill = [7, 0, 255];
                let json = serde_json::to_string(&roi).unwrap();
                assert_eq!(serde_json::from_str::<Roi>(&json).unwrap(), roi);
            }
        }
        let stored = |runs: &str, width| {
            let runs = runs.to_owned();
            Roi::try_from(Stored { source: "m".into(), width, height: 2, fill: [0; 3], runs })
        };
        let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
        assert!(stored(&encoded(&[2, 4]), 3).is_ok());
        for (runs, width) in [
            ("?", 3),
            (&*encoded(&[2, 3]), 3),
            (&encoded(&[2, 5]), 3),
            (&encoded(&[6]), 3),
            (&encoded(&[2, 0x84]), 3),
            (&encoded(&[0xff; 9]), 3),
            (&encoded(&[0]), 0),
            (&encoded(&[2, 4]), 1 << 40),
        ] {
            assert!(stored(runs, width).is_err(), "{runs} {width}");
        }
    }
}
