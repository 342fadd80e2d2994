//! How far the part moves and turns from picture to picture: by its silhouette where it stands out from a plain background
//! ([`Part`]), else by laying each picture over one of them; where neither works, that is what is said.

use rayon::prelude::*;
use serde::Serialize;

use super::look::{Look, SIGNATURE_SIDE};
use super::part::Part;
use crate::statistics::quantile;

/// Share of the pictures in which the part has to be found, or which have to match.
const MOST: f64 = 0.8;
/// Pictures match from this correlation on.
const MATCH: f64 = 0.8;
/// Largest shift that is tried, in cells of the signature: an eighth of the picture.
const REACH: usize = SIGNATURE_SIDE / 8;
/// Below this length of the mean of doubled directions, parts lie in any direction.
const ANY_DIRECTION: f64 = 0.35;

/// How parts are turned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// By a standard deviation of so many degrees about one direction (180 degrees apart is not told apart).
    Degrees(f64),
    /// In any direction.
    Any,
    /// The parts are about as wide as long.
    CannotTell,
}

/// What is known of the pose.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pose {
    /// By the silhouettes of the parts.
    Silhouette {
        /// Pictures in which the part was found.
        found: usize,
        /// Half the range that holds nine of ten centres, in shares of the picture's width.
        shift_x: f64,
        /// The same in shares of its height.
        shift_y: f64,
        /// Half the range that holds nine of ten lengths (roots of areas), over their median.
        size: f64,
        /// Turn.
        turn: Turn,
    },
    /// The pictures match one of them that is shifted; no turn is seen.
    Match {
        /// Pictures that match.
        found: usize,
        /// As above.
        shift_x: f64,
        /// As above.
        shift_y: f64,
    },
    /// Neither way works.
    CannotTell,
}

impl Pose {
    /// Of the good pictures.
    #[must_use]
    pub fn of(looks: &[&Look]) -> Self {
        let enough = (MOST * looks.len() as f64).ceil().max(2.0) as usize;
        let parts: Vec<Part> = looks.iter().filter_map(|l| l.part).collect();
        if parts.len() >= enough {
            return by_silhouette(&parts);
        }
        by_match(looks)
            .filter(|p| matches!(p, Self::Match { found, .. } if *found >= enough))
            .unwrap_or(Self::CannotTell)
    }

    /// In plain words.
    #[must_use]
    pub fn text(&self) -> String {
        let percent = |v: f64| format!("{:.1} %", 100.0 * v);
        match self {
            Self::Silhouette { shift_x, shift_y, size, turn, .. } => {
                let turn = match turn {
                    Turn::Degrees(d) => format!("turned by {d:.0} degrees (standard deviation)"),
                    Turn::Any => "turned in any direction".into(),
                    Turn::CannotTell => "cannot tell how it is turned: it is about as wide as long".into(),
                };
                format!(
                    "the part lies within {} of the width and {} of the height of its middle place, its size within {}; {turn}",
                    percent(*shift_x),
                    percent(*shift_y),
                    percent(*size)
                )
            }
            Self::Match { shift_x, shift_y, .. } => format!(
                "the pictures match each other: shifted within {} of the width and {} of the height, not turned",
                percent(*shift_x),
                percent(*shift_y)
            ),
            Self::CannotTell => {
                "cannot tell: the part does not stand out from a plain background, and the pictures do not \
                                 match each other"
                    .into()
            }
        }
    }
}

/// Half the range of the middle nine of ten values.
fn half_range(values: &[f64]) -> f64 {
    let (low, high) = (quantile(values, 0.05), quantile(values, 0.95));
    low.zip(high).map_or(0.0, |(low, high)| (high - low) / 2.0)
}

fn by_silhouette(parts: &[Part]) -> Pose {
    let of = |f: &dyn Fn(&Part) -> f64| parts.iter().map(f).collect::<Vec<f64>>();
    let lengths = of(&|p| p.area.sqrt());
    let directions: Vec<f64> = parts.iter().filter_map(|p| p.degrees).collect();
    let turn = if (directions.len() as f64) < MOST * parts.len() as f64 {
        Turn::CannotTell
    } else {
        // Directions 180 degrees apart are one: doubled, they are points of a circle. Mardia's circular deviation.
        let n = directions.len() as f64;
        let sum = |f: fn(f64) -> f64| directions.iter().map(|d| f((2.0 * d).to_radians())).sum::<f64>() / n;
        let length = sum(f64::cos).hypot(sum(f64::sin));
        if length < ANY_DIRECTION {
            Turn::Any
        } else {
            Turn::Degrees((-2.0 * length.min(1.0).ln()).max(0.0).sqrt().to_degrees() / 2.0)
        }
    };
    Pose::Silhouette {
        found: parts.len(),
        shift_x: half_range(&of(&|p| p.x)),
        shift_y: half_range(&of(&|p| p.y)),
        size: half_range(&lengths) / quantile(&lengths, 0.5).unwrap_or(1.0).max(1e-9),
        turn,
    }
}

/// Lays every picture over the one that is nearest to the mean of all.
fn by_match(looks: &[&Look]) -> Option<Pose> {
    let cells = SIGNATURE_SIDE * SIGNATURE_SIDE;
    let signatures: Vec<&[f32]> = looks.iter().map(|l| l.signature.as_slice()).collect();
    let mut mean = vec![0.0f32; cells];
    for s in &signatures {
        mean.iter_mut().zip(*s).for_each(|(m, v)| *m += v / signatures.len() as f32);
    }
    let likeness: Vec<f64> = signatures.par_iter().map(|s| correlation(s, &mean, 0, 0)).collect();
    let reference = (0..looks.len()).max_by(|&a, &b| likeness[a].total_cmp(&likeness[b]))?;
    let reach = REACH as isize;
    let best: Vec<(f64, isize, isize)> = signatures
        .par_iter()
        .map(|s| {
            let shifts = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dx, dy)));
            let tried = shifts.map(|(dx, dy)| (correlation(s, signatures[reference], dx, dy), dx, dy));
            tried.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0, 0))
        })
        .collect();
    // The best of the shifts that are tried need not be the best of all where it is the last one.
    let within = |shift: isize| shift.unsigned_abs() < REACH;
    let matched: Vec<_> = best.iter().filter(|b| b.0 >= MATCH && within(b.1) && within(b.2)).collect();
    let shifts = |f: fn(&(f64, isize, isize)) -> isize| {
        matched.iter().map(|b| f(b) as f64 / SIGNATURE_SIDE as f64).collect::<Vec<_>>()
    };
    Some(Pose::Match {
        found: matched.len(),
        shift_x: half_range(&shifts(|b| b.1)),
        shift_y: half_range(&shifts(|b| b.2)),
    })
}

/// Correlation of `a`, moved by (`dx`, `dy`) cells, with the middle of `b`.
fn correlation(a: &[f32], b: &[f32], dx: isize, dy: isize) -> f64 {
    let side = SIGNATURE_SIDE;
    let (mut ab, mut aa, mut bb, mut sa, mut sb) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for y in REACH..side - REACH {
        let from = (y as isize + dy) as usize * side + (REACH as isize + dx) as usize;
        let width = side - 2 * REACH;
        for (a, b) in a[from..from + width].iter().zip(&b[y * side + REACH..][..width]) {
            (ab, aa, bb, sa, sb) = (ab + a * b, aa + a * a, bb + b * b, sa + a, sb + b);
        }
    }
    let n = ((side - 2 * REACH) * (side - 2 * REACH)) as f32;
    let (ab, aa, bb) = (ab - sa * sb / n, aa - sa * sa / n, bb - sb * sb / n);
    f64::from(ab) / f64::from(aa * bb).max(1e-6).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(x: f64, degrees: Option<f64>) -> Part {
        Part { x, y: 0.5, area: 0.1, degrees }
    }

    #[test]
    fn turns_are_told_by_their_spread() {
        let turn = |degrees: &dyn Fn(usize) -> Option<f64>| {
            let parts: Vec<Part> = (0..60).map(|i| part(0.4 + 0.2 * i as f64 / 59.0, degrees(i))).collect();
            match by_silhouette(&parts) {
                Pose::Silhouette { turn, shift_x, shift_y, .. } => {
                    assert!((shift_x - 0.09).abs() < 1e-9 && shift_y == 0.0, "{shift_x}");
                    turn
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(turn(&|i| Some(3.0 * i as f64)), Turn::Any);
        assert_eq!(turn(&|i| (i < 10).then_some(5.0)), Turn::CannotTell);
        // About the horizontal, where 179 and 1 degrees are near each other: deviation of -10, 0, 10 is 8.16.
        let Turn::Degrees(d) = turn(&|i| Some([170.0, 0.0, 10.0][i % 3])) else { panic!("one direction") };
        assert!((d - 8.2).abs() < 0.1, "{d}");
    }

    #[test]
    fn shifted_pictures_match_and_their_shift_is_found() {
        let scene = |x: isize, y: isize| ((x * x * 7 + y * y * 5 + x * y * 3) % 97) as f32 - 48.0;
        // Coarse blobs, so that a shift by one cell matters and is found.
        let blob = |x: isize, y: isize| scene((x + 40).div_euclid(6), (y + 40).div_euclid(6));
        let shifted = |d: isize| -> Vec<f32> {
            let at = |i: usize| blob((i % SIGNATURE_SIDE) as isize + d, (i / SIGNATURE_SIDE) as isize);
            (0..SIGNATURE_SIDE * SIGNATURE_SIDE).map(at).collect()
        };
        let still = shifted(0);
        for d in [-5, 0, 3, 8] {
            let best = (-8..=8).map(|dx| (correlation(&shifted(d), &still, dx, 0), dx));
            let (value, dx) = best.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            assert!(value > 0.999 && dx == -d, "{value} at {dx} for {d}");
        }
        assert!(correlation(&vec![0.0; 4096], &still, 0, 0).abs() < 1e-6, "a blank picture matches nothing");
    }
}
