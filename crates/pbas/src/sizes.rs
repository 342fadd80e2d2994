//! At which sizes pictures are looked at: given, or by the good pictures' own (docs/recipe.md, "Which views").

use serde::{Deserialize, Serialize};

use crate::preprocess::InputSize;
use crate::statistics::quantile;

/// At which sizes a picture is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sizes {
    /// By the good pictures' own size, the first view's shorter side at most [`AUTO_MOST`].
    Auto,
    /// The same up to [`NATIVE_MOST`]: what is small in large pictures is still seen, for more time.
    Native,
    /// These, one view each.
    Fixed(Vec<InputSize>),
}

/// Longest shorter side of a view that [`Sizes::Auto`] chooses.
pub const AUTO_MOST: usize = 640;
/// Longest shorter side of a view that [`Sizes::Native`] chooses.
pub const NATIVE_MOST: usize = 2048;
/// Shortest side of a view.
const LEAST: usize = 160;
/// The second view's side as a share of the first's.
pub const SECOND: f64 = 0.625;
/// Views of pictures that are no larger than [`LEAST`].
const SMALL: [usize; 2] = [288, LEAST];
/// The median picture of no set, if there is none.
const NONE: InputSize = InputSize::square(288);
/// A side is a multiple of this: the coarsest features have a cell for so many pixels.
pub const RUNG: usize = 32;
/// Pictures longer than so many times their shorter side keep their proportions, others become squares: 4 to 3 and 3 to 2 gain nothing
/// by it and cost their pixels.
const SQUARED: f64 = 1.6;
/// No view is longer than so many times its shorter side.
const LONGEST: f64 = 4.0;
/// Proportions within this factor of the median are like it, and so must be most pictures for their proportions to be kept.
const ALIKE: f64 = 1.25;
/// Share of the pictures that are most.
const MOST: f64 = 0.9;

impl Sizes {
    /// The size of each view for good pictures of these sizes, the largest first unless they are given: two, of which the first has the
    /// median shorter side within 160 and the most that may be, and the second 0.625 of it, to multiples of 32. Pictures
    /// so small that the first would be 160 get 288 and 160.
    #[must_use]
    pub fn of(&self, pictures: &[InputSize]) -> Vec<InputSize> {
        let most = match self {
            Self::Fixed(sizes) => return sizes.clone(),
            Self::Auto => AUTO_MOST,
            Self::Native => NATIVE_MOST,
        };
        let middle = shorter_side(pictures);
        let ratio = common_ratio(pictures);
        let rung = |side: f64| (side / RUNG as f64).round() as usize * RUNG;
        let side = middle.clamp(LEAST as f64, most as f64);
        let own = rung(side);
        let sides = if own <= LEAST { SMALL } else { [own, rung(side * SECOND)] };
        let view = |side: usize| {
            let longer = rung(side as f64 * ratio.max(1.0 / ratio));
            let (width, height) = if ratio > 1.0 { (longer, side) } else { (side, longer) };
            InputSize { height, width }
        };
        sides.map(view).to_vec()
    }

    /// What is to be said where the pictures are much larger than [`Sizes::Auto`] looks at them.
    #[must_use]
    pub fn reduction(&self, pictures: &[InputSize]) -> Option<String> {
        let middle = shorter_side(pictures);
        if *self != Self::Auto || middle < (2 * AUTO_MOST) as f64 {
            return None;
        }
        let area = |sizes: Self| sizes.of(pictures).iter().map(|s| (s.width * s.height) as f64).sum::<f64>();
        Some(format!(
            "pictures with a shorter side of {middle:.0} pixels are looked at in {}: defects of few pixels may not show; `--size native` looks at \
             them in {} and takes about {:.0} times as long",
            self.of(pictures)[0],
            Self::Native.of(pictures)[0],
            area(Self::Native) / area(Self::Auto)
        ))
    }
}

/// The median shorter side.
fn shorter_side(pictures: &[InputSize]) -> f64 {
    let shorter: Vec<f64> = pictures.iter().map(|s| s.width.min(s.height) as f64).collect();
    quantile(&shorter, 0.5).unwrap_or(NONE.width as f64)
}

/// Width over height of the views: the pictures' where most are alike and longer than [`SQUARED`], else 1.
fn common_ratio(pictures: &[InputSize]) -> f64 {
    let ratio = |s: &InputSize| s.width as f64 / s.height as f64;
    let ratios: Vec<f64> = pictures.iter().map(ratio).collect();
    let Some(middle) = quantile(&ratios, 0.5) else { return 1.0 };
    let like = |ratio: &&f64| (1.0 / ALIKE..=ALIKE).contains(&(*ratio / middle));
    let alike = ratios.iter().filter(like).count() as f64 >= MOST * ratios.len() as f64;
    let long = !(1.0 / SQUARED..=SQUARED).contains(&middle);
    if alike && long { middle.clamp(1.0 / LONGEST, LONGEST) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(sizes: &Sizes, width: usize, height: usize) -> Vec<[usize; 2]> {
        sizes.of(&[InputSize { height, width }; 3]).iter().map(|s| [s.width, s.height]).collect()
    }

    #[test]
    fn auto_sizes_follow_the_pictures() {
        let sides = |n: usize| sizes(&Sizes::Auto, n, n);
        let squares = |a: usize, b: usize| vec![[a, a], [b, b]];
        assert_eq!(sides(512), squares(512, 320));
        assert_eq!(sides(576), squares(576, 352));
        assert_eq!(sides(380), squares(384, 224));
        assert_eq!(sides(300), squares(288, 192));
        assert_eq!(sides(4000), squares(640, 416));
        assert_eq!(sides(200), squares(192, 128));
        assert_eq!(sides(170), squares(288, 160));
        assert_eq!(sides(128), squares(288, 160));
        assert_eq!(sides(1), squares(288, 160));
        assert_eq!(Sizes::Auto.of(&[]), [288, 192].map(InputSize::square));
        assert_eq!(
            Sizes::Auto.of(&[900, 200, 210].map(InputSize::square)),
            Sizes::Auto.of(&[InputSize::square(210)])
        );
        assert_eq!(Sizes::Fixed(vec![NONE]).of(&[InputSize::square(900)]), [NONE]);
    }

    #[test]
    fn native_sizes_reduce_the_largest_pictures_only() {
        for side in [128, 300, 640] {
            assert_eq!(sizes(&Sizes::Native, side, side), sizes(&Sizes::Auto, side, side));
        }
        assert_eq!(sizes(&Sizes::Native, 1024, 1024), [[1024, 1024], [640, 640]]);
        assert_eq!(sizes(&Sizes::Native, 5000, 5000), [[2048, 2048], [1280, 1280]]);
    }

    #[test]
    fn long_pictures_keep_their_proportions() {
        assert_eq!(sizes(&Sizes::Auto, 768, 576), [[576, 576], [352, 352]], "4 to 3");
        assert_eq!(sizes(&Sizes::Auto, 1500, 1000), [[640, 640], [416, 416]], "3 to 2");
        assert_eq!(sizes(&Sizes::Auto, 1920, 1080), [[1152, 640], [736, 416]], "16 to 9");
        assert_eq!(sizes(&Sizes::Auto, 500, 1240), [[512, 1280], [320, 800]], "upright");
        assert_eq!(
            sizes(&Sizes::Auto, 8192, 512),
            [[2048, 512], [1280, 320]],
            "a strip is stretched to 4 to 1"
        );
        let pictures = |upright: usize| {
            let one = |i| if i < upright { (500, 1240) } else { (1240, 500) };
            let size = |(width, height)| InputSize { height, width };
            Sizes::Auto.of(&(0..20).map(one).map(size).collect::<Vec<_>>())
        };
        assert_eq!(pictures(2)[0], InputSize { height: 512, width: 1280 }, "two of twenty are turned");
        assert_eq!(pictures(3)[0], InputSize::square(512), "three of twenty are turned");
    }

    #[test]
    fn a_large_reduction_is_said() {
        let said = |sizes: Sizes, side: usize| sizes.reduction(&[InputSize::square(side)]);
        assert_eq!(said(Sizes::Auto, 1279), None);
        assert_eq!(said(Sizes::Native, 5000), None);
        let text = said(Sizes::Auto, 1280).unwrap();
        assert!(
            text.contains("640 x 640") && text.contains("1280 x 1280") && text.contains("about 4 times"),
            "{text}"
        );
    }
}
