//! AU-PIMO and sensitivity at few false rejects, against slow twins.

use pbas::image::DefectMask;
use pbas::metrics::{AUPIMO_LIMITS, PixelCurve, RankingCurve};
use pbas::score::ScoreMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SIDE: usize = 256;

/// Maps of noise with defects that stand out by `lift`, and their masks; `good` maps without come first.
fn pictures(
    good: usize,
    defective: usize,
    lift: f32,
    levels: Option<f32>,
) -> (Vec<ScoreMap>, Vec<Option<DefectMask>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (mut maps, mut masks) = (Vec::new(), Vec::new());
    for i in 0..good + defective {
        let mut values: Vec<f32> = (0..SIDE * SIDE).map(|_| rng.random::<f32>().powi(2)).collect();
        let mut data = vec![0; SIDE * SIDE];
        if i >= good {
            for (y, x) in (10..10 + 8 * (i + 1)).flat_map(|y| (20..40).map(move |x| (y, x))) {
                data[y * SIDE + x] = 1;
                values[y * SIDE + x] += lift * rng.random::<f32>();
            }
        }
        if let Some(levels) = levels {
            values.iter_mut().for_each(|v| *v = (*v * levels).round() / levels);
        }
        maps.push(ScoreMap { width: SIDE, height: SIDE, values });
        masks.push((i >= good).then_some(DefectMask { width: SIDE, height: SIDE, data }));
    }
    (maps, masks)
}

/// Many thresholds one by one: at each rate on a fine logarithmic grid the part found above the good score of that rank.
fn slow(maps: &[ScoreMap], masks: &[Option<DefectMask>]) -> f64 {
    const POINTS: usize = 4_000;
    let mut good: Vec<f32> = maps
        .iter()
        .zip(masks)
        .filter(|(_, m)| m.is_none())
        .flat_map(|(map, _)| map.values.iter().copied())
        .collect();
    good.sort_by(|a, b| b.total_cmp(a));
    let [low, high] = AUPIMO_LIMITS;
    let mut sum = 0.0;
    for i in 0..POINTS {
        let rate = low * (high / low).powf((i as f64 + 0.5) / POINTS as f64);
        let threshold = good[(rate * good.len() as f64).ceil() as usize - 1];
        let (mut found, mut pictures) = (0.0, 0.0);
        for (map, mask) in maps.iter().zip(masks) {
            let Some(mask) = mask else { continue };
            let inside: Vec<f32> =
                map.values.iter().zip(&mask.data).filter(|(_, m)| **m == 1).map(|(v, _)| *v).collect();
            found += inside.iter().filter(|v| **v > threshold).count() as f64 / inside.len() as f64;
            pictures += 1.0;
        }
        sum += found / pictures;
    }
    sum / POINTS as f64
}

fn aupimo(maps: &[ScoreMap], masks: &[Option<DefectMask>]) -> Option<f64> {
    PixelCurve::new(maps, &masks.iter().map(Option::as_ref).collect::<Vec<_>>()).unwrap().aupimo()
}

#[test]
fn agrees_with_many_thresholds_one_by_one() {
    for (good, lift) in [(4, 0.3), (4, 0.05), (2, 0.6), (1, 0.3)] {
        let (maps, masks) = pictures(good, 3, lift, None);
        let (fast, slow) = (aupimo(&maps, &masks).unwrap(), slow(&maps, &masks));
        assert!((fast - slow).abs() < 2e-3, "{good} good, lift {lift}: {fast} {slow}");
        assert!(fast > 0.0 && fast < 1.0, "{fast}");
    }
}

#[test]
fn ends_of_the_scale_and_absent_ones() {
    let (maps, masks) = pictures(2, 2, 0.0, None);
    let mut perfect = maps.clone();
    for (map, mask) in perfect.iter_mut().zip(&masks) {
        if let Some(mask) = mask {
            map.values.iter_mut().zip(&mask.data).filter(|(_, m)| **m == 1).for_each(|(v, _)| *v += 2.0);
        }
    }
    assert!((aupimo(&perfect, &masks).unwrap() - 1.0).abs() < 1e-12);
    let blind: Vec<ScoreMap> =
        maps.iter().map(|m| ScoreMap { values: vec![0.5; SIDE * SIDE], ..*m }).collect();
    let found = aupimo(&blind, &masks).unwrap();
    assert!(found < 1e-9, "one score for all finds nothing below its one rate: {found}");
    assert_eq!(aupimo(&maps[..2], &masks[..2]), None, "no defects");
    assert_eq!(aupimo(&maps[2..], &masks[2..]), None, "no good pictures");
    let small = ScoreMap { width: 2, height: 1, values: vec![0.0, 1.0] };
    let mask = DefectMask { width: 2, height: 1, data: vec![0, 1] };
    assert_eq!(aupimo(&[small.clone(), small], &[None, Some(mask)]), None, "too few good pixels");
    // The order of the pictures does not matter.
    let turned = |n: usize| {
        (
            maps.iter().cycle().skip(n).take(4).cloned().collect::<Vec<_>>(),
            masks.iter().cycle().skip(n).take(4).cloned().collect::<Vec<_>>(),
        )
    };
    let (m, k) = turned(3);
    assert!((aupimo(&maps, &masks).unwrap() - aupimo(&m, &k).unwrap()).abs() < 1e-12);
}

#[test]
fn sensitivity_takes_equal_scores_together() {
    let scores = [0.9, 0.8, 0.8, 0.7, 0.6, 0.5];
    let positive = [true, true, false, true, false, true];
    let curve = RankingCurve::new(&scores, &positive).unwrap();
    assert_eq!(curve.recall_at(0.0), Some(0.25));
    assert_eq!(
        curve.recall_at(0.49),
        Some(0.25),
        "two good items: half of them is the least that can be rejected"
    );
    assert_eq!(curve.recall_at(0.5), Some(0.75));
    assert_eq!(curve.recall_at(1.0), Some(1.0));
    let reversed: Vec<bool> = positive.iter().map(|p| !p).collect();
    assert_eq!(RankingCurve::new(&scores, &reversed).unwrap().recall_at(0.0), Some(0.0), "the best is good");
    assert_eq!(RankingCurve::new(&scores, &[true; 6]).unwrap().recall_at(0.0), None);
}
