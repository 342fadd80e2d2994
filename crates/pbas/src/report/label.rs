//! Small text on a picture: an 8 x 8 pixel font, drawn twice as large.

use crate::image::Rgb8;
use font8x8::{BASIC_FONTS, UnicodeFonts};

/// Width and height of one character in pixels.
pub const CHARACTER: usize = 16;
/// Screen pixels a font pixel, in both directions.
const ENLARGED: usize = 2;

/// Writes `text` with its upper left corner at (`x`, `y`). Anything but printable ASCII becomes `?`; what lies
/// outside the canvas is not drawn.
pub fn draw_text(canvas: &mut Rgb8, x: usize, y: usize, text: &str, colour: [u8; 3]) {
    for (place, character) in text.chars().enumerate() {
        let left = x.saturating_add(place.saturating_mul(CHARACTER));
        if left >= canvas.width {
            return;
        }
        let printable = if character == ' ' || character.is_ascii_graphic() { character } else { '?' };
        let Some(glyph) = BASIC_FONTS.get(printable) else { continue };
        for dy in 0..CHARACTER {
            for dx in 0..CHARACTER {
                if glyph[dy / ENLARGED] >> (dx / ENLARGED) & 1 == 1 {
                    put(canvas, left + dx, y.saturating_add(dy), colour);
                }
            }
        }
    }
}

/// `text` cut to at most `room` characters; a cut is shown by `...` at the end (or fewer dots if there is no
/// room for three).
pub fn clip(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let dots = room.min(3);
    let kept = text.chars().take(room - dots);
    kept.chain(std::iter::repeat_n('.', dots)).collect()
}

/// A number in few characters: three decimals where that shows something, else two digits and an exponent.
pub fn number(value: f32) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() || (0.001..10_000.0).contains(&size) {
        format!("{value:.3}")
    } else {
        format!("{value:.1e}")
    }
}

/// Sets one pixel if it lies on the canvas.
pub(super) fn put(canvas: &mut Rgb8, x: usize, y: usize, colour: [u8; 3]) {
    if x < canvas.width && y < canvas.height {
        let at = 3 * (y * canvas.width + x);
        canvas.data[at..at + 3].copy_from_slice(&colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn black(width: usize, height: usize) -> Rgb8 {
        Rgb8 { width, height, data: vec![0; width * height * 3] }
    }

    #[test]
    fn clips_with_dots_and_counts_characters_not_bytes() {
        let cases = [
            ("short", 5, "short"),
            ("longer", 5, "lo..."),
            ("longer", 3, "..."),
            ("longer", 1, "."),
            ("longer", 0, ""),
            ("äöüß", 4, "äöüß"),
            ("äöüßé", 4, "ä..."),
        ];
        for (text, room, expected) in cases {
            assert_eq!(clip(text, room), expected, "{text} in {room}");
        }
    }

    #[test]
    fn numbers_stay_short() {
        let cases = [
            (0.0, "0.000"),
            (1.23456, "1.235"),
            (-4.5, "-4.500"),
            (1e-5, "1.0e-5"),
            (123_456.0, "1.2e5"),
            (f32::NAN, "NaN"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn a_letter_is_drawn_upright_and_at_its_place() {
        let mut canvas = black(40, 20);
        draw_text(&mut canvas, 4, 2, "L", [255, 0, 0]);
        let lit = |x: usize, y: usize| canvas.data[3 * (y * 40 + x)] == 255;
        let column = |x: usize| (0..20).filter(|&y| lit(x, y)).count();
        let row = |y: usize| (0..40).filter(|&x| lit(x, y)).count();
        // The stem of the L is at its left, its foot below.
        let tallest = (0..40).max_by_key(|&x| column(x)).unwrap();
        let widest = (0..20).max_by_key(|&y| row(y)).unwrap();
        assert!((4..12).contains(&tallest), "stem at {tallest}");
        assert!((10..18).contains(&widest), "foot at {widest}");
        assert!(lit(tallest, 3) && !lit(17, 4));
    }

    #[test]
    fn foreign_letters_become_question_marks_and_text_outside_is_dropped() {
        let (mut a, mut b) = (black(40, 20), black(40, 20));
        draw_text(&mut a, 0, 0, "ä\n", [9; 3]);
        draw_text(&mut b, 0, 0, "??", [9; 3]);
        assert_eq!(a, b);
        assert!(a.data.contains(&9));
        let mut tiny = black(3, 3);
        draw_text(&mut tiny, 1, 1, "MMMM", [9; 3]);
        draw_text(&mut tiny, usize::MAX, usize::MAX, "M", [9; 3]);
        assert_eq!(tiny.data.len(), 27);
    }
}
