//! Metrics against scikit-learn's figures and against slow, obvious twins on small inputs with many ties.

use std::path::PathBuf;

use pbas::ErrorKind;
use pbas::image::{DefectArea, DefectMask};
use pbas::metrics::{
    F1Max, PixelCurve, PixelCurveBuilder, RankingCurve, aupro, auroc, average_precision, f1_max,
};
use pbas::score::ScoreMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

// ---- golden ----

fn golden(file: &str) -> Vec<u8> {
    let folder = std::env::var_os("PBAS_GOLDEN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file} in {}: {e}", folder.display()))
}

fn f32s(st: &SafeTensors, name: &str) -> Vec<f32> {
    let bytes = st.tensor(name).unwrap();
    assert_eq!(bytes.dtype(), safetensors::Dtype::F32, "{name}");
    bytes.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn number(st: &SafeTensors, name: &str) -> f64 {
    let view = st.tensor(name).unwrap();
    assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F64, &[1][..]), "{name}");
    f64::from_le_bytes(view.data().try_into().unwrap())
}

/// Maps `[n, h, w]`, their masks (all zero for good pictures) and one label a picture.
fn golden_pictures(st: &SafeTensors) -> (Vec<ScoreMap>, Vec<DefectMask>, Vec<bool>) {
    let [n, height, width] = *st.tensor("maps").unwrap().shape() else { panic!("maps: three axes") };
    let masks = st.tensor("masks").unwrap();
    assert_eq!((masks.dtype(), masks.shape()), (safetensors::Dtype::U8, &[n, height, width][..]));
    let maps: Vec<_> = f32s(st, "maps")
        .chunks_exact(height * width)
        .map(|v| ScoreMap { width, height, values: v.to_vec() })
        .collect();
    let masks: Vec<_> = masks
        .data()
        .chunks_exact(height * width)
        .map(|m| DefectMask { width, height, data: m.to_vec() })
        .collect();
    let labels: Vec<_> = masks.iter().map(|m| m.data.contains(&1)).collect();
    assert!(n > 0 && labels.contains(&true) && labels.contains(&false));
    (maps, masks, labels)
}

#[test]
fn golden_metrics() {
    let bytes = golden("metrics.safetensors");
    let st = SafeTensors::deserialize(&bytes).unwrap();
    let (maps, masks, labels) = golden_pictures(&st);
    // Good pictures in both forms: without a mask and with an empty one.
    let masks: Vec<Option<&DefectMask>> =
        masks.iter().zip(&labels).enumerate().map(|(i, (m, d))| (*d || i % 2 == 0).then_some(m)).collect();
    let scores = f32s(&st, "image_scores");
    let pixels = PixelCurve::new(&maps, &masks).unwrap();
    let pixel_labels: Vec<bool> = maps
        .iter()
        .zip(&masks)
        .flat_map(|(map, mask)| {
            mask.map_or(vec![false; map.values.len()], |m| m.data.iter().map(|&d| d == 1).collect())
        })
        .collect();
    let pixel_scores: Vec<f32> = maps.iter().flat_map(|m| m.values.clone()).collect();

    let rank = pixels.ranking();
    let image_f1 = f1_max(&scores, &labels).unwrap();
    let pixel_f1 = rank.f1_max().unwrap();
    for (name, found) in [
        ("image_auroc", auroc(&scores, &labels).unwrap()),
        ("image_ap", average_precision(&scores, &labels).unwrap()),
        ("image_f1_max", image_f1.f1),
        ("pixel_auroc", rank.auroc().unwrap()),
        ("pixel_ap", rank.average_precision().unwrap()),
        ("pixel_f1_max", pixel_f1.f1),
        ("aupro_0.3", pixels.aupro(0.3).unwrap()),
        ("aupro_0.05", pixels.aupro(0.05).unwrap()),
        ("regions", pixels.regions() as f64),
    ] {
        let expected = number(&st, name);
        assert!((found - expected).abs() < 1e-9, "{name}: expected {expected}, found {found}");
    }
    // scikit-learn's argmax works on rounded F1 values: where two thresholds have the same F1, rounding may favour
    // either. So: the same threshold, or one whose F1 is the same.
    for (name, best, scores, labels) in [
        ("image_f1_threshold", image_f1, &scores, &labels),
        ("pixel_f1_threshold", pixel_f1, &pixel_scores, &pixel_labels),
    ] {
        let expected = number(&st, name);
        let (_, _, f1) = slow_at(scores, labels, expected as f32);
        assert!(
            f64::from(best.threshold) == expected || (f1 - best.f1).abs() < 1e-12,
            "{name}: expected {expected}, found {best:?}"
        );
    }
}

// ---- slow twins ----

fn slow_auroc(scores: &[f32], positive: &[bool]) -> f64 {
    let (mut right, mut pairs) = (0.0, 0.0);
    for (i, &p) in positive.iter().enumerate() {
        for (j, &q) in positive.iter().enumerate() {
            if p && !q {
                pairs += 1.0;
                right += if scores[i] > scores[j] {
                    1.0
                } else if scores[i] == scores[j] {
                    0.5
                } else {
                    0.0
                };
            }
        }
    }
    right / pairs
}

/// Precision, recall and F1 of calling everything at or above `threshold` defective.
fn slow_at(scores: &[f32], positive: &[bool], threshold: f32) -> (f64, f64, f64) {
    let count = |want_positive: bool| {
        scores.iter().zip(positive).filter(|(s, p)| **s >= threshold && **p == want_positive).count() as f64
    };
    let (tp, fp) = (count(true), count(false));
    let all = positive.iter().filter(|p| **p).count() as f64;
    let (precision, recall) = (tp / (tp + fp), tp / all);
    let f1 = if tp > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
    (precision, recall, f1)
}

/// Distinct scores, highest first.
fn thresholds(scores: &[f32]) -> Vec<f32> {
    let mut t = scores.to_vec();
    t.sort_by(|a, b| b.partial_cmp(a).unwrap());
    t.dedup();
    t
}

fn slow_average_precision(scores: &[f32], positive: &[bool]) -> f64 {
    let (mut sum, mut last) = (0.0, 0.0);
    for t in thresholds(scores) {
        let (precision, recall, _) = slow_at(scores, positive, t);
        sum += (recall - last) * precision;
        last = recall;
    }
    sum
}

/// 8-connected regions by flood fill: the pixels of each.
fn slow_regions(mask: &DefectMask) -> Vec<Vec<usize>> {
    let (w, h) = (mask.width as i64, mask.height as i64);
    let mut seen = vec![false; mask.data.len()];
    let mut regions = Vec::new();
    for start in 0..mask.data.len() {
        if mask.data[start] == 0 || seen[start] {
            continue;
        }
        seen[start] = true;
        let mut region = vec![start];
        let mut next = 0;
        while next < region.len() {
            let (x, y) = (region[next] as i64 % w, region[next] as i64 / w);
            next += 1;
            for (u, v) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (x + dx, y + dy))) {
                let at = (v * w + u) as usize;
                if (0..w).contains(&u) && (0..h).contains(&v) && mask.data[at] != 0 && !seen[at] {
                    seen[at] = true;
                    region.push(at);
                }
            }
        }
        regions.push(region);
    }
    regions
}

fn slow_aupro(maps: &[ScoreMap], masks: &[Option<&DefectMask>], limit: f64) -> f64 {
    let all: Vec<f32> = maps.iter().flat_map(|m| m.values.clone()).collect();
    let mut curve = vec![(0.0, 0.0)];
    for t in thresholds(&all) {
        let (mut overlaps, mut good, mut called) = (vec![], 0.0, 0.0);
        for (map, mask) in maps.iter().zip(masks) {
            let empty = DefectMask { width: map.width, height: map.height, data: vec![0; map.values.len()] };
            let mask = mask.unwrap_or(&empty);
            for (s, _) in map.values.iter().zip(&mask.data).filter(|(_, m)| **m == 0) {
                good += 1.0;
                called += f64::from(u8::from(*s >= t));
            }
            for region in slow_regions(mask) {
                let hit = region.iter().filter(|&&i| map.values[i] >= t).count();
                overlaps.push(hit as f64 / region.len() as f64);
            }
        }
        curve.push((called / good, overlaps.iter().sum::<f64>() / overlaps.len() as f64));
    }
    area_below(&curve, limit)
}

/// Trapezoids below (rate, overlap) up to `limit`, divided by it.
fn area_below(curve: &[(f64, f64)], limit: f64) -> f64 {
    let mut area = 0.0;
    for pair in curve.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        if x0 < limit && x1 > x0 {
            let x = x1.min(limit);
            let y = y0 + (y1 - y0) * (x - x0) / (x1 - x0);
            area += (x - x0) * (y0 + y) / 2.0;
        }
    }
    area / limit
}

fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-12, "{what}: expected {expected}, found {found}");
}

// ---- the twins agree ----

#[test]
fn ranking_agrees_with_slow_twins() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut defined = 0;
    for case in 0..400 {
        let n = rng.random_range(1..40);
        let levels = rng.random_range(1..8); // few levels: many ties
        // Negative scores too; -0.0 appears and ties with 0.0.
        let scores: Vec<f32> = (0..n)
            .map(|_| rng.random_range(-levels..=levels) as f32 * if rng.random() { 0.5 } else { -0.5 })
            .collect();
        let positive: Vec<bool> = (0..n).map(|_| rng.random_range(0..3) == 0).collect();
        let both = positive.contains(&true) && positive.contains(&false);
        let (roc, ap, f1) =
            (auroc(&scores, &positive), average_precision(&scores, &positive), f1_max(&scores, &positive));
        assert_eq!((roc.is_some(), ap.is_some(), f1.is_some()), (both, both, both), "case {case}");
        let (Some(roc), Some(ap), Some(f1)) = (roc, ap, f1) else { continue };
        defined += 1;
        close(roc, slow_auroc(&scores, &positive), "auroc");
        close(ap, slow_average_precision(&scores, &positive), "average precision");
        // Rising thresholds with a margin for rounding: the first of equals is the lowest.
        let mut best = (0.0, f32::NAN);
        for t in thresholds(&scores).into_iter().rev() {
            let (_, _, f) = slow_at(&scores, &positive, t);
            if f > best.0 + 1e-9 {
                best = (f, t);
            }
        }
        close(f1.f1, best.0, "f1");
        assert_eq!(f1.threshold, best.1, "case {case}");
        let (precision, recall, _) = slow_at(&scores, &positive, f1.threshold);
        close(f1.precision, precision, "precision");
        close(f1.recall, recall, "recall");
    }
    assert!(defined > 300, "{defined} cases had both classes");
}

#[test]
fn pixel_curve_agrees_with_slow_twins() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut defined = 0;
    for _ in 0..150 {
        let levels = rng.random_range(2..9);
        let density = rng.random_range(2..8);
        let (mut maps, mut all_masks) = (vec![], vec![]);
        for _ in 0..rng.random_range(1..4) {
            // Maps of differing sizes, single rows, columns and pixels among them.
            let (width, height) = (rng.random_range(1..9), rng.random_range(1..9));
            let data: Vec<u8> =
                (0..width * height).map(|_| u8::from(rng.random_range(0..density) == 0)).collect();
            let values = data
                .iter()
                .map(|d| (rng.random_range(0..levels) + i32::from(*d)) as f32 / levels as f32)
                .collect();
            maps.push(ScoreMap { width, height, values });
            all_masks.push(rng.random_range(0..4).ne(&0).then_some(DefectMask { width, height, data }));
        }
        let masks: Vec<Option<&DefectMask>> = all_masks.iter().map(|m| m.as_ref()).collect();
        let curve = PixelCurve::new(&maps, &masks).unwrap();
        let regions: usize = masks.iter().flatten().map(|m| slow_regions(m).len()).sum();
        assert_eq!(curve.regions(), regions);
        let (mut scores, mut labels) = (vec![], vec![]);
        for (map, mask) in maps.iter().zip(&masks) {
            scores.extend_from_slice(&map.values);
            labels.extend((0..map.values.len()).map(|i| mask.is_some_and(|m| m.data[i] == 1)));
        }
        let both = labels.contains(&true) && labels.contains(&false);
        assert_eq!(curve.aupro(0.3).is_some(), both);
        assert_eq!(curve.ranking().auroc(), auroc(&scores, &labels));
        assert_eq!(curve.ranking().average_precision(), average_precision(&scores, &labels));
        assert_eq!(curve.ranking().f1_max(), f1_max(&scores, &labels));
        if both {
            defined += 1;
            for limit in [0.05, 0.3, 0.5, 1.0] {
                let expected = slow_aupro(&maps, &masks, limit);
                close(curve.aupro(limit).unwrap(), expected, "aupro");
                assert_eq!(aupro(&maps, &masks, limit), curve.aupro(limit));
            }
        }
    }
    assert!(defined > 80, "{defined} cases had both classes");
}

/// sPRO as the paper writes it: at each threshold the mean over areas of the part that is found of what is enough, at most 1.
fn slow_spro(maps: &[ScoreMap], areas: &[Vec<DefectArea>], limit: f64) -> f64 {
    let all: Vec<f32> = maps.iter().flat_map(|m| m.values.clone()).collect();
    let mut curve = vec![(0.0, 0.0)];
    for t in thresholds(&all) {
        let (mut overlaps, mut good, mut called) = (vec![], 0.0, 0.0);
        for (map, areas) in maps.iter().zip(areas) {
            for (i, s) in map.values.iter().enumerate() {
                if areas.iter().all(|a| a.mask.data[i] == 0) {
                    good += 1.0;
                    called += f64::from(u8::from(*s >= t));
                }
            }
            for area in areas {
                let of = area.mask.data.iter().filter(|v| **v != 0).count() as f64;
                let hit =
                    area.mask.data.iter().zip(&map.values).filter(|(m, s)| **m != 0 && **s >= t).count();
                if of > 0.0 {
                    overlaps.push((hit as f64 / (of * area.enough)).min(1.0));
                }
            }
        }
        curve.push((called / good, overlaps.iter().sum::<f64>() / overlaps.len() as f64));
    }
    area_below(&curve, limit)
}

#[test]
fn areas_of_which_a_part_is_enough_agree_with_a_slow_twin() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut defined, mut overlapping) = (0, 0);
    for case in 0..150 {
        let (mut maps, mut all, mut builder) = (vec![], vec![], PixelCurveBuilder::new());
        for _ in 0..3 {
            let (width, height) = (rng.random_range(1..9), rng.random_range(1..9));
            let mut area = |_| {
                let data = (0..width * height).map(|_| u8::from(rng.random_range(0..5) == 0)).collect();
                let enough = rng.random_range(1..=8) as f64 / 8.0;
                DefectArea { mask: DefectMask { width, height, data }, enough }
            };
            let areas: Vec<DefectArea> = (0..case % 4).map(&mut area).collect();
            let values = (0..width * height).map(|_| rng.random_range(0..6) as f32).collect();
            let map = ScoreMap { width, height, values };
            builder.add_areas(&map, &areas, None).unwrap();
            maps.push(map);
            all.push(areas);
        }
        let curve = builder.finish();
        let (mut scores, mut labels, mut memberships) = (vec![], vec![], 0);
        for (map, areas) in maps.iter().zip(&all) {
            scores.extend_from_slice(&map.values);
            labels.extend((0..map.values.len()).map(|i| areas.iter().any(|a| a.mask.data[i] != 0)));
            memberships += areas.iter().flat_map(|a| &a.mask.data).filter(|v| **v != 0).count();
        }
        // A pixel of several areas is one pixel.
        assert_eq!(curve.ranking().auroc(), auroc(&scores, &labels), "case {case}");
        assert_eq!(curve.ranking().f1_max(), f1_max(&scores, &labels), "case {case}");
        overlapping += usize::from(memberships > labels.iter().filter(|l| **l).count());
        if labels.contains(&true) && labels.contains(&false) {
            defined += 1;
            for limit in [0.05, 0.3, 1.0] {
                close(curve.aupro(limit).unwrap(), slow_spro(&maps, &all, limit), "spro");
            }
        }
    }
    assert!(defined > 80 && overlapping > 40, "{defined} {overlapping}");
}

#[test]
fn a_part_that_is_enough_is_as_good_as_all() {
    let map = ScoreMap { width: 8, height: 1, values: vec![9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] };
    let mask = DefectMask { width: 8, height: 1, data: vec![1, 1, 1, 1, 0, 0, 0, 0] };
    let figure = |enough: f64| {
        let mut builder = PixelCurveBuilder::new();
        builder.add_areas(&map, &[DefectArea { mask: mask.clone(), enough }], None).unwrap();
        builder.finish().aupro(0.2).unwrap()
    };
    close(figure(0.5), 1.0, "two of four pixels are enough");
    // Points (0, 1/2), (1, 1): at 0.2 the overlap is 0.6.
    close(figure(1.0), 0.55, "all are needed, as in AUPRO");
    let mut builder = PixelCurveBuilder::new();
    for enough in [0.0, -1.0, 1.5, f64::NAN] {
        let e = builder.add_areas(&map, &[DefectArea { mask: mask.clone(), enough }], None).unwrap_err();
        assert!(e.to_string().contains("defect area: expected above 0 and at most 1"), "{e}");
    }
    assert_eq!(builder.finish().regions(), 0);
}

// ---- by hand ----

#[test]
fn figures_worked_out_by_hand() {
    // scikit-learn's own example for average_precision_score and roc_auc_score.
    let (scores, labels) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
    close(auroc(&scores, &labels).unwrap(), 0.75, "auroc");
    close(average_precision(&scores, &labels).unwrap(), 5.0 / 6.0, "average precision");
    let expected = F1Max { f1: 0.8, threshold: 0.35, precision: 2.0 / 3.0, recall: 1.0 };
    assert_eq!(f1_max(&scores, &labels), Some(expected));
    // All tied: chance.
    close(auroc(&[1.0; 5], &[true, false, false, true, false]).unwrap(), 0.5, "all tied");
    // F1 is 2/3 at 3.0 (1 of 1 called) and at 1.0 (2 of 4 called): the lower is given.
    let f1 = f1_max(&[3.0, 2.0, 2.0, 1.0], &[true, false, false, true]).unwrap();
    assert_eq!((f1.f1, f1.threshold), (2.0 / 3.0, 1.0));
}

#[test]
fn aupro_counts_regions_not_pixels() {
    // A region of 4 pixels is found, one of 1 pixel scores like the good pixels: overlap 1/2 until all is called.
    let map = ScoreMap { width: 8, height: 1, values: vec![9.0, 9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0] };
    let mask = DefectMask { width: 8, height: 1, data: vec![1, 1, 1, 1, 0, 1, 0, 0] };
    // Points (0, 0), (0, 1/2), (1, 1): at 0.2 the overlap is 0.6, the mean on the way 0.55.
    close(aupro(&[map], &[Some(&mask)], 0.2).unwrap(), 0.55, "aupro");
}

// ---- bad input ----

#[test]
fn undefined_figures_are_none() {
    for labels in [[true, true], [false, false]] {
        assert_eq!(auroc(&[0.1, 0.2], &labels), None);
        assert_eq!(average_precision(&[0.1, 0.2], &labels), None);
        assert_eq!(f1_max(&[0.1, 0.2], &labels), None);
    }
    assert_eq!(auroc(&[], &[]), None);
    assert_eq!(auroc(&[f32::NAN, 0.2], &[true, false]), None);
    assert_eq!(auroc(&[0.1], &[true, false]), None);
    assert_eq!(PixelCurve::new(&[], &[]).unwrap().aupro(0.3), None);

    let map = ScoreMap { width: 2, height: 1, values: vec![0.0, 1.0] };
    let mask = |data: [u8; 2]| DefectMask { width: 2, height: 1, data: data.to_vec() };
    let one = |m: &DefectMask, limit| aupro(std::slice::from_ref(&map), &[Some(m)], limit);
    assert_eq!(one(&mask([0, 1]), 0.3), Some(1.0));
    assert_eq!(one(&mask([0, 0]), 0.3), None, "no region");
    assert_eq!(one(&mask([1, 1]), 0.3), None, "no good pixel");
    for limit in [0.0, -0.3, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(one(&mask([0, 1]), limit), None, "limit {limit}");
    }
}

#[test]
fn bad_input_is_named_and_adds_nothing() {
    let text = |e: pbas::Error| {
        assert_eq!(e.kind(), ErrorKind::Caller);
        e.to_string()
    };
    let e = text(RankingCurve::new(&[0.1, f32::NAN], &[true, false]).unwrap_err());
    assert_eq!(e, "score 1 of 2: expected a number, found NaN");
    let e = text(RankingCurve::new(&[0.1], &[true, false]).unwrap_err());
    assert_eq!(e, "labels: expected 1 as there are scores, found 2");

    let map = ScoreMap { width: 2, height: 2, values: vec![0.0, 1.0, 0.5, 0.5] };
    let mask = DefectMask { width: 2, height: 2, data: vec![0, 1, 0, 0] };
    let mut builder = PixelCurveBuilder::new();
    builder.add(&map, Some(&mask)).unwrap();
    let wide = DefectMask { width: 4, height: 1, data: vec![0; 4] };
    let e = text(builder.add(&map, Some(&wide)).unwrap_err());
    assert_eq!(e, "defect mask: expected 2 x 2 as its score map, found 4 x 1 of 4 values");
    let short = DefectMask { data: vec![1; 3], ..mask.clone() };
    text(builder.add(&map, Some(&short)).unwrap_err());
    let e = text(builder.add(&ScoreMap { values: vec![0.0; 3], ..map.clone() }, None).unwrap_err());
    assert_eq!(e, "score map of 2 rows of 2: expected height * width values, found 3");
    text(builder.add(&ScoreMap { values: vec![f32::NAN; 4], ..map.clone() }, Some(&mask)).unwrap_err());
    let curve = builder.finish();
    let rank = curve.ranking();
    assert_eq!((rank.positives(), rank.negatives(), curve.regions()), (1, 3, 1));

    let e = text(PixelCurve::new(&[map.clone(), map], &[Some(&mask), Some(&wide)]).unwrap_err());
    assert_eq!(e, "cannot use score map 1");
    text(PixelCurve::new(&[], &[None]).unwrap_err());
}

/// Scores that know nothing find defects at the rate at which they accuse good pixels: every figure is known.
#[test]
fn scores_by_chance_give_the_figures_of_chance() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (width, height) = (200, 200);
    let mut data = vec![0; width * height];
    for y in 80..100 {
        data[y * width + 60..][..40].fill(1);
    }
    let mask = DefectMask { width, height, data };
    let maps: Vec<ScoreMap> = (0..10)
        .map(|_| ScoreMap { width, height, values: (0..width * height).map(|_| rng.random()).collect() })
        .collect();
    let masks: Vec<_> = (0..10).map(|i| (i % 2 == 0).then_some(&mask)).collect();
    let curve = PixelCurve::new(&maps, &masks).unwrap();
    let rank = curve.ranking();
    assert_eq!((rank.positives(), rank.negatives(), curve.regions()), (4000, 396_000, 5));
    // 4000 pixels of defect: the standard deviation of the AUROC is 0.0046.
    let near = |found: Option<f64>, expected: f64, within: f64, what: &str| {
        let found = found.unwrap();
        assert!((found - expected).abs() < within, "{what}: expected about {expected}, found {found}");
    };
    near(rank.auroc(), 0.5, 0.015, "AUROC");
    near(rank.average_precision(), 0.01, 0.001, "average precision is the share of defective pixels");
    near(rank.f1_max().map(|best| best.f1), 0.02, 0.002, "F1 is best when all is called defective");
    near(curve.aupro(0.3), 0.15, 0.015, "AUPRO at 0.3");
    near(curve.aupro(0.05), 0.025, 0.005, "AUPRO at 0.05");
}
