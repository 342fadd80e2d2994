//! Is this the camera that the model was trained for? A model file knows the sizes at which it looks and, with a region of interest, the
//! picture's proportions; the first pictures say what the camera sends.

use pbas::preprocess::InputSize;
use pbas::sizes::{AUTO_MOST, RUNG, SECOND, Sizes};

use crate::judge::Judge;

/// A shorter side that differs by more than this factor from what the model looks at is another camera's.
const SIDES: f64 = 1.5;
/// The shorter side of pictures that are enlarged, about.
const SMALL: usize = 160;
/// Proportions that differ by more than this factor are others.
const PROPORTIONS: f64 = 1.02;

/// What was said of the camera.
#[derive(Debug, Default)]
pub struct Camera {
    size: Option<(u32, u32)>,
    told_model: bool,
    told_change: bool,
}

impl Camera {
    /// Looks at the size of a judged picture; what people should know, once.
    pub fn look(&mut self, judge: &Judge, width: u32, height: u32) -> Option<String> {
        if width == 0 || height == 0 {
            return None;
        }
        if !self.told_model
            && let Some(reason) = misfit(judge, width, height)
        {
            self.told_model = true;
            self.size.get_or_insert((width, height));
            return Some(format!("THIS MODEL MAY BE FOR ANOTHER CAMERA: {reason}"));
        }
        let first = *self.size.get_or_insert((width, height));
        if first != (width, height) && !self.told_change {
            self.told_change = true;
            return Some(format!(
                "THE CAMERA'S PICTURES CHANGED: they were {} x {} pixels and now are {width} x {height}; verdicts hold for pictures like those \
                 that the model was trained on",
                first.0, first.1
            ));
        }
        None
    }

    /// With the size of the pictures before a restart.
    pub fn remember(&mut self, width: u32, height: u32) {
        self.size.get_or_insert((width, height));
    }
}

fn misfit(judge: &Judge, width: u32, height: u32) -> Option<String> {
    let model = judge.detector().model();
    let found = format!("pictures are {width} x {height} pixels");
    if let Some(roi) = &model.settings.roi {
        let size = roi.size();
        let expected = size.width as f64 / size.height as f64;
        let ratio = f64::from(width) / f64::from(height) / expected;
        if !(1.0 / PROPORTIONS..=PROPORTIONS).contains(&ratio) {
            return Some(format!(
                "{found}, its region of interest was drawn for {} x {}",
                size.width, size.height
            ));
        }
    }
    let looked = judge.detector().map_size();
    let sides: Vec<usize> = model.views.iter().map(|v| v.size.width.min(v.size.height)).collect();
    let side = width.min(height) as usize;
    let ratio = match chosen_for(&sides) {
        Some(of_model) => side_of(&chosen(side, rule_of(&sides))) as f64 / of_model as f64,
        // Sizes of a person's choice: larger pictures are reduced to them, much smaller ones have little to show.
        None => {
            let looked = looked.width.min(looked.height);
            side.min(looked) as f64 / looked as f64
        }
    };
    (!(1.0 / SIDES..=SIDES).contains(&ratio))
        .then(|| format!("{found}, and it looks at {} x {}", looked.width, looked.height))
}

/// The rule that chose these shorter sides, if one did: only one of them goes so far.
fn rule_of(sides: &[usize]) -> Sizes {
    if sides.first().is_some_and(|&s| s > AUTO_MOST) { Sizes::Native } else { Sizes::Auto }
}

/// Sizes that are chosen by the training pictures follow their shorter side; these are for such a side.
fn chosen(side: usize, rule: Sizes) -> Vec<usize> {
    rule.of(&[InputSize::square(side)]).iter().map(|s| s.width).collect()
}

/// The shorter side that chosen sizes stand for: small pictures are enlarged.
fn side_of(sides: &[usize]) -> usize {
    if sides == chosen(1, Sizes::Auto) { SMALL } else { sides[0] }
}

/// The same of a model's sizes; `None` where they were not chosen by the pictures.
fn chosen_for(sides: &[usize]) -> Option<usize> {
    let [own, second] = *sides else { return None };
    // Both views lie on a coarser scale than pictures: of the sides that the first stands for, the one that suits the second best.
    let suits = (second as f64 / SECOND) as usize;
    let side = suits.clamp(own.saturating_sub(RUNG / 2), own + RUNG / 2 - 1);
    let small = sides == chosen(1, Sizes::Auto);
    (small || sides == chosen(side, rule_of(sides))).then(|| side_of(sides))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_of_the_training_pictures_is_known_where_it_chose_the_sizes() {
        for side in [128, 170, 200, 300, 380, 512, 600, 640, 1000, 2000] {
            let found = chosen_for(&chosen(side, Sizes::Native)).unwrap() as f64 / side as f64;
            assert!((0.8..1.3).contains(&found), "{side}: {found}");
        }
        assert_eq!(chosen_for(&[64]), None);
        assert_eq!(chosen_for(&[]), None);
    }
}
