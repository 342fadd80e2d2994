//! Whether a JPEG file is all there. The decoder fills what is missing with grey and reports success; half a picture
//! must never get a verdict.

/// Walks the marker segments (ITU-T T.81, annex B) and says whether the end marker (EOI) is reached.
///
/// A file cut short has none: inside the entropy-coded data every 0xFF is followed by 0x00 or a restart marker, and
/// segments (with the thumbnails inside them) are stepped over by their length. Damage in the middle of the data is
/// not seen.
pub(super) fn reaches_end(bytes: &[u8]) -> bool {
    let mut at = 2; // behind the start marker (SOI)
    while let (Some(&first), Some(&second)) = (bytes.get(at), bytes.get(at + 1)) {
        match (first, second) {
            (0xFF, 0xD9) => return true,                  // EOI
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => at += 2, // stuffed byte, TEM, RST0-7, SOI: without a length
            (0xFF, 0xFF) => at += 1,                      // fill byte before a marker
            (0xFF, _) => match bytes.get(at + 2..at + 4) {
                Some(length) => at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2),
                None => return false,
            },
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_marker_is_found_only_outside_segments() {
        let whole = [
            &[0xFF, 0xD8][..],
            &[0xFF, 0xE1, 0x00, 0x04, 0xFF, 0xD9], // APP1 whose two bytes of content look like an end
            &[0xFF, 0xDA, 0x00, 0x02],             // SOS
            &[0x12, 0xFF, 0x00, 0x34, 0xFF, 0xD3, 0x56], // data with a stuffed byte and a restart
            &[0xFF, 0xFF, 0xD9],                   // fill byte, EOI
        ]
        .concat();
        assert!(reaches_end(&whole));
        assert!(reaches_end(&[&whole[..], b"trailing"].concat()));
        for cut in 0..whole.len() {
            assert!(!reaches_end(&whole[..cut]), "cut at {cut}");
        }
    }
}
