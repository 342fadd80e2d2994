//! Patch scores to maps, scores and regions: against torch and scipy's figures, and against slow, obvious twins.

use std::path::PathBuf;

use pbas::ErrorKind;
use pbas::score::{
    MAX_SIDE, MAX_SIGMA, Region, ScoreMap, SmoothUpsampler, gaussian_smooth, region_of_peak, regions,
    top_share_mean, upsample_bilinear,
};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};

// ---- golden ----

fn golden(file: &str) -> Vec<u8> {
    let folder = std::env::var_os("PBAS_GOLDEN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file} in {}: {e}", folder.display()))
}

fn f32s(st: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f32>) {
    let view = st.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::F32, "{name}");
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (view.shape().to_vec(), values)
}

#[test]
fn golden_maps_and_image_scores() {
    for file in ["pbas_aligned.safetensors", "pbas_unaligned.safetensors", "pbas_odd.safetensors"] {
        let bytes = golden(file);
        let st = SafeTensors::deserialize(&bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let size = &metadata.metadata().as_ref().unwrap()["input_size"];
        let (h, w) = size.split_once('x').map(|(h, w)| (h.parse().unwrap(), w.parse().unwrap())).unwrap();
        let (grid, patches) = f32s(&st, "predict.patch_score");
        let (map_shape, maps) = f32s(&st, "predict.map");
        let n = grid[0];
        assert!(n > 0 && map_shape == [n, h, w], "{file}");
        let scores = st.tensor("predict.image_score").unwrap();
        assert_eq!((scores.dtype(), scores.shape()), (Dtype::F64, &[n][..]), "{file}");
        let scores: Vec<f64> =
            scores.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
        let fused = SmoothUpsampler::new(grid[1], grid[2], h, w, 4.0).unwrap();
        for (i, patch) in patches.chunks_exact(grid[1] * grid[2]).enumerate() {
            let expected = &maps[i * h * w..][..h * w];
            let two_steps =
                gaussian_smooth(&upsample_bilinear(patch, grid[1], grid[2], h, w).unwrap(), 4.0).unwrap();
            assert_close(&fused.apply(patch).unwrap(), expected, 1e-5, file);
            assert_close(&two_steps, expected, 1e-5, file);
            let score = f64::from(top_share_mean(patch, 0.0));
            assert!((score - scores[i]).abs() < 1e-7, "{file} {i}: expected {}, found {score}", scores[i]);
        }
    }
}

fn assert_close(found: &ScoreMap, expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.values.len(), expected.len(), "{what}");
    assert_eq!(found.values.len(), found.width * found.height, "{what}");
    for (i, (f, e)) in found.values.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{what}, value {i}: expected {e}, found {f}");
    }
}

// ---- slow twins, one pixel at a time in float64 ----

fn slow_upsample(src: &[f32], (sh, sw): (usize, usize), (dh, dw): (usize, usize)) -> Vec<f32> {
    // The source seen as a surface through its pixel centres, level beyond them.
    let sample = |y: f64, x: f64| {
        let (y, x) = (y.clamp(0.0, (sh - 1) as f64), x.clamp(0.0, (sw - 1) as f64));
        let (fy, fx) = (y - y.floor(), x - x.floor());
        let at = |r: f64, c: f64| f64::from(src[r as usize * sw + c as usize]);
        (1.0 - fy) * ((1.0 - fx) * at(y.floor(), x.floor()) + fx * at(y.floor(), x.ceil()))
            + fy * ((1.0 - fx) * at(y.ceil(), x.floor()) + fx * at(y.ceil(), x.ceil()))
    };
    let centre = |i: usize, src: usize, dst: usize| (i as f64 + 0.5) * src as f64 / dst as f64 - 0.5;
    (0..dh)
        .flat_map(|y| (0..dw).map(move |x| (y, x)))
        .map(|(y, x)| sample(centre(y, sh, dh), centre(x, sw, dw)) as f32)
        .collect()
}

/// Walks from the border back inwards, and again at the other border.
fn bounce(mut j: i64, n: usize) -> usize {
    let n = n as i64;
    while !(0..n).contains(&j) {
        j = if j < 0 { -1 - j } else { 2 * n - 1 - j };
    }
    j as usize
}

fn slow_gaussian(map: &[f32], (h, w): (usize, usize), sigma: f64) -> Vec<f32> {
    let r = (4.0 * sigma + 0.5) as i64;
    let weight = |k: i64| (-(k * k) as f64 / (2.0 * sigma * sigma)).exp();
    (0..h as i64)
        .flat_map(|y| (0..w as i64).map(move |x| (y, x)))
        .map(|(y, x)| {
            let (mut sum, mut total) = (0.0, 0.0);
            for (dy, dx) in (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dy, dx))) {
                let weight = weight(dy) * weight(dx);
                sum += weight * f64::from(map[bounce(y + dy, h) * w + bounce(x + dx, w)]);
                total += weight;
            }
            (sum / total) as f32
        })
        .collect()
}

fn noise(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random()).collect()
}

#[test]
fn upsampling_and_smoothing_agree_with_slow_twins() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Grid, map, sigma: whole and broken ratios, shrinking, one row, radius beyond the map (many reflections).
    for ((sh, sw), (dh, dw), sigma) in [
        ((8, 8), (64, 64), 4.0),
        ((7, 9), (28, 36), 2.0),
        ((5, 6), (23, 31), 1.3),
        ((12, 10), (7, 4), 0.8),
        ((1, 5), (1, 20), 3.0),
        ((1, 1), (6, 4), 4.0),
        ((3, 2), (5, 3), 6.0),
        ((2, 2), (2, 1), 9.0),
        ((6, 6), (6, 6), 0.2),
    ] {
        let what = format!("{sh} x {sw} to {dh} x {dw}, sigma {sigma}");
        let src = noise(&mut rng, sh * sw);
        let wide = slow_upsample(&src, (sh, sw), (dh, dw));
        assert_close(&upsample_bilinear(&src, sh, sw, dh, dw).unwrap(), &wide, 1e-6, &what);
        let smooth = slow_gaussian(&wide, (dh, dw), sigma);
        let map = ScoreMap { width: dw, height: dh, values: wide };
        assert_close(&gaussian_smooth(&map, sigma).unwrap(), &smooth, 2e-6, &what);
        let fused = SmoothUpsampler::new(sh, sw, dh, dw, sigma).unwrap();
        assert_close(&fused.apply(&src).unwrap(), &smooth, 2e-6, &what);
    }
}

#[test]
fn a_level_map_stays_level_and_sigma_zero_changes_nothing() {
    let map = SmoothUpsampler::new(6, 3, 50, 20, 30.0).unwrap().apply(&[0.75; 18]).unwrap();
    assert_eq!((map.width, map.height), (20, 50));
    assert_close(&map, &[0.75; 1000], 1e-6, "level");
    let map = ScoreMap { width: 7, height: 5, values: noise(&mut ChaCha8Rng::seed_from_u64(2), 35) };
    assert_eq!(gaussian_smooth(&map, 0.0).unwrap(), map);
    assert_eq!(upsample_bilinear(&map.values, 5, 7, 5, 7).unwrap(), map);
}

#[test]
fn nan_spreads_as_far_as_the_kernel_and_no_further() {
    let mut map = ScoreMap { width: 9, height: 9, values: vec![0.0; 81] };
    map.values[4 * 9 + 4] = f32::NAN;
    let smooth = gaussian_smooth(&map, 0.5).unwrap(); // radius 2
    for (i, v) in smooth.values.iter().enumerate() {
        let (y, x) = (i / 9, i % 9);
        assert_eq!(v.is_nan(), y.abs_diff(4) <= 2 && x.abs_diff(4) <= 2, "{y} {x}");
    }
}

#[test]
fn bad_sizes_are_named() {
    let e = SmoothUpsampler::new(2, 0, 4, 4, 1.0).unwrap_err();
    assert_eq!(
        (e.kind(), e.to_string().as_str()),
        (ErrorKind::Caller, "score map: expected sizes of at least 1, found 2 x 0 to 4 x 4")
    );
    for sigma in [-1.0, f64::NAN, f64::INFINITY, MAX_SIGMA * 1.01] {
        assert_eq!(SmoothUpsampler::new(2, 2, 4, 4, sigma).unwrap_err().kind(), ErrorKind::Caller, "{sigma}");
    }
    for (h, w) in [(1 << 40, 1 << 40), (1 << 40, 1), (1, MAX_SIDE + 1)] {
        assert_eq!(SmoothUpsampler::new(2, 2, h, w, 1.0).unwrap_err().kind(), ErrorKind::Limits, "{h} x {w}");
    }
    let up = SmoothUpsampler::new(2, 3, 4, 6, 1.0).unwrap();
    let e = up.apply(&[0.0; 5]).unwrap_err();
    assert_eq!(e.to_string(), "patch scores of 2 rows of 3: expected height * width values, found 5");
    assert!(upsample_bilinear(&[0.0; 3], 2, 2, 4, 4).is_err());
    let broken = ScoreMap { width: 3, height: 3, values: vec![0.0; 8] };
    assert!(gaussian_smooth(&broken, 1.0).is_err());
    assert!(regions(&broken, 0.5, 1).is_err());
}

// ---- one score from many ----

#[test]
fn top_share_mean_agrees_with_sorting() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..2000 {
        let n: usize = rng.random_range(1..=100);
        let mut values: Vec<f32> = (0..n).map(|_| rng.random_range(-5..5) as f32 / 7.0).collect();
        let percent = rng.random_range(0..=100);
        let share = percent as f64 / 100.0;
        let found = top_share_mean(&values, share);
        values.shuffle(&mut rng);
        assert_eq!(top_share_mean(&values, share).to_bits(), found.to_bits(), "the order does not matter");
        values.sort_by(|a, b| b.partial_cmp(a).unwrap());
        let count = (percent * n).div_ceil(100).max(1);
        let mean = values[..count].iter().sum::<f32>() / count as f32;
        assert!((found - mean).abs() < 1e-6, "{values:?} {share}: expected {mean}, found {found}");
    }
    // Large values that cancel: another order of the sum would keep or lose the small ones.
    let mut values = [1e30, -1e30, 1.0, 2.0, -3.5, 1e25, -1e25];
    let found = top_share_mean(&values, 1.0);
    for _ in 0..50 {
        values.shuffle(&mut rng);
        assert_eq!(top_share_mean(&values, 1.0).to_bits(), found.to_bits(), "{values:?}");
    }
    let values = [0.5, -2.0, 3.0, 1.0];
    for (share, expected) in
        [(0.0, 3.0), (0.25, 3.0), (0.26, 2.0), (1.0, 0.625), (7.0, 0.625), (-1.0, 3.0), (f64::NAN, 3.0)]
    {
        assert_eq!(top_share_mean(&values, share), expected, "share {share}");
    }
    assert!(top_share_mean(&[], 0.5).is_nan());
    for nan in [f32::NAN, -f32::NAN] {
        assert!(top_share_mean(&[1.0, nan, 2.0], 0.0).is_nan());
    }
}

// ---- regions ----

/// A map drawn with digits; `.` is 0.
fn drawn(rows: &[&str]) -> ScoreMap {
    let values =
        rows.iter().flat_map(|r| r.bytes().map(|b| if b == b'.' { 0.0 } else { f32::from(b - b'0') }));
    ScoreMap { width: rows[0].len(), height: rows.len(), values: values.collect() }
}

fn region(x: usize, y: usize, width: usize, height: usize, area: usize, peak: f32) -> Region {
    Region { x, y, width, height, area, peak }
}

#[test]
fn regions_are_eight_connected_and_sorted() {
    let map = drawn(&[
        "5......2", //
        "5.....1.", "..3.....", ".3.7..57", "......5.",
    ]);
    let expected = [
        region(1, 2, 3, 2, 3, 7.0), // joined by its corners
        region(6, 3, 2, 2, 3, 7.0), // the same peak: further down
        region(0, 0, 1, 2, 2, 5.0),
        region(6, 0, 2, 2, 2, 2.0),
    ];
    assert_eq!(regions(&map, 0.0, 1).unwrap(), expected);
    assert_eq!(regions(&map, 0.0, 3).unwrap(), expected[..2]);
    // Strictly above: at 5 only the sevens are left, each alone.
    assert_eq!(regions(&map, 5.0, 0).unwrap(), [region(3, 3, 1, 1, 1, 7.0), region(7, 3, 1, 1, 1, 7.0)]);
    assert_eq!(regions(&map, 7.0, 0).unwrap(), []);
    // A box that grows to the left below its first pixel, and encloses another region.
    let map = drawn(&[
        "....1", //
        "...1.", "1...1", "1.9.1", "1...1", "11111",
    ]);
    assert_eq!(regions(&map, 0.5, 1).unwrap(), [region(2, 3, 1, 1, 1, 9.0), region(0, 0, 5, 6, 13, 1.0)]);
}

#[test]
fn regions_of_odd_maps() {
    assert_eq!(regions(&drawn(&["1"]), 0.5, 1).unwrap(), [region(0, 0, 1, 1, 1, 1.0)]);
    assert_eq!(regions(&drawn(&["1", ".", "2"]), 0.5, 1).unwrap().len(), 2);
    assert_eq!(regions(&drawn(&["1.2"]), 0.5, 1).unwrap().len(), 2);
    let empty = ScoreMap { width: 0, height: 0, values: vec![] };
    assert_eq!(regions(&empty, 0.5, 1).unwrap(), []);
    let nan = ScoreMap { width: 3, height: 1, values: vec![1.0, f32::NAN, 1.0] };
    assert_eq!(regions(&nan, 0.5, 1).unwrap().len(), 2, "a NaN pixel is not above the threshold");
    assert_eq!(regions(&nan, f32::NAN, 1).unwrap(), []);
    let full = ScoreMap { width: 300, height: 200, values: vec![1.0; 60_000] };
    assert_eq!(regions(&full, 0.5, 1).unwrap(), [region(0, 0, 300, 200, 60_000, 1.0)]);
}

#[test]
fn the_region_of_the_peak_is_what_is_above_the_middle_around_it() {
    // The four is not above the middle between the median, 0, and 8; the sixes further off are, and no part of its region.
    let map = drawn(&["4586.66", "..5...6", ".......", "......."]);
    assert_eq!(region_of_peak(&map).unwrap(), Some(region(1, 0, 3, 2, 4, 8.0)));
    assert_eq!(region_of_peak(&drawn(&["...", "..."])).unwrap(), None, "a level map");
    assert_eq!(region_of_peak(&ScoreMap { width: 0, height: 0, values: vec![] }).unwrap(), None);
    // What lies outside a region of interest is no part of the median.
    let outside = [f32::NEG_INFINITY; 9];
    let values = [&outside[..], &[-2.0, -2.0, -1.8, -1.0]].concat();
    let below = ScoreMap { width: 13, height: 1, values };
    assert_eq!(region_of_peak(&below).unwrap(), Some(region(12, 0, 1, 1, 1, -1.0)));
}

#[test]
fn regions_agree_with_spreading_labels() {
    // Twin: every pixel starts with its own label and takes the smallest of its neighbours until nothing changes.
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..200 {
        let (w, h) = (rng.random_range(1..12), rng.random_range(1..12));
        let map = ScoreMap { width: w, height: h, values: noise(&mut rng, w * h) };
        let threshold = rng.random_range(0.3..0.9);
        let mut label: Vec<usize> = (0..w * h).collect();
        let set = |i: usize| map.values[i] > threshold;
        loop {
            let before = label.clone();
            for i in (0..w * h).filter(|&i| set(i)) {
                for j in (0..w * h).filter(|&j| set(j)) {
                    if (i % w).abs_diff(j % w) <= 1 && (i / w).abs_diff(j / w) <= 1 {
                        label[i] = label[i].min(label[j]);
                    }
                }
            }
            if label == before {
                break;
            }
        }
        let mut expected = vec![];
        for first in 0..w * h {
            let members: Vec<usize> = (0..w * h).filter(|&i| set(i) && label[i] == first).collect();
            if members.is_empty() {
                continue;
            }
            let (xs, ys) = (members.iter().map(|i| i % w), members.iter().map(|i| i / w));
            let (x, y) = (xs.clone().min().unwrap(), ys.clone().min().unwrap());
            let peak = members.iter().map(|&i| map.values[i]).fold(0.0, f32::max);
            expected.push(region(
                x,
                y,
                xs.max().unwrap() + 1 - x,
                ys.max().unwrap() + 1 - y,
                members.len(),
                peak,
            ));
        }
        expected.sort_by(|a, b| b.peak.total_cmp(&a.peak)); // random scores: no ties
        assert_eq!(regions(&map, threshold, 1).unwrap(), expected);
    }
}

#[test]
fn a_region_is_written_with_the_names_of_the_output() {
    let json = serde_json::to_string(&region(1, 2, 3, 4, 5, 0.5)).unwrap();
    assert_eq!(json, r#"{"x":1,"y":2,"width":3,"height":4,"area":5,"peak":0.5}"#);
}
