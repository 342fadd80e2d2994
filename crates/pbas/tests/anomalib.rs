//! AUPRO and AU-PIMO against the figures that anomalib gives for the same maps (`bench/anomalib_metrics.py` made them once).

use pbas::image::DefectMask;
use pbas::metrics::PixelCurve;
use pbas::score::ScoreMap;
use serde::Deserialize;

const SIDE: usize = 512;
const GOOD: usize = 16;
const DEFECTIVE: usize = 5;

#[derive(Deserialize)]
struct Figures {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// Scores are rounded down to multiples of this, unless it is 0.
    step: f32,
    /// Good pictures.
    good: usize,
    #[serde(rename = "aupro_0.3")]
    aupro: f64,
    #[serde(rename = "aupro_0.05")]
    aupro_005: f64,
    /// Of each defective picture; absent with ties, of which anomalib's thresholds make something else.
    aupimo: Option<Vec<f64>>,
}

/// As `noise` of the script.
fn noise(seed: u64) -> impl Fn(usize) -> f32 {
    move |place| {
        let mut x = (place as u64 * 0x9E37_79B1 + seed * 0x85EB_CA77) as u32;
        for (shift, factor) in [(16, 0x85EB_CA6B), (13, 0xC2B2_AE35)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        x ^= x >> 16;
        (x >> 8) as f32 / (1 << 24) as f32
    }
}

/// As `mask` of the script.
fn mask(j: usize) -> DefectMask {
    let mut data = vec![0; SIDE * SIDE];
    let (bottom, right) = (40 + 10 * j, 60 + 20 * j);
    for (rows, columns) in
        [(20..bottom, 30..right), (bottom..bottom + 7, right..right + 9), (300..303 + j, 200..204)]
    {
        rows.for_each(|y| data[y * SIDE..][columns.clone()].fill(1));
    }
    DefectMask { width: SIDE, height: SIDE, data }
}

/// As `picture` of the script.
fn picture(i: usize, step: f32) -> (ScoreMap, Option<DefectMask>) {
    let (u, v) = (noise(2 * i as u64), noise(2 * i as u64 + 1));
    let defects = i.checked_sub(GOOD).map(mask);
    let score = |place: usize| {
        let defective = defects.as_ref().is_some_and(|m| m.data[place] != 0);
        let score = if defective {
            let square = v(place) * v(place);
            square * square * (900 + 200 * (i - GOOD)) as f32
        } else {
            u(place) / (1.0 + 1.0 / 1024.0 - u(place))
        };
        if step > 0.0 { (score / step).floor() * step } else { score }
    };
    (ScoreMap { width: SIDE, height: SIDE, values: (0..SIDE * SIDE).map(score).collect() }, defects)
}

fn curve(pictures: &[(ScoreMap, Option<DefectMask>)]) -> PixelCurve {
    let maps: Vec<ScoreMap> = pictures.iter().map(|p| p.0.clone()).collect();
    let masks: Vec<Option<&DefectMask>> = pictures.iter().map(|p| p.1.as_ref()).collect();
    PixelCurve::new(&maps, &masks).unwrap()
}

#[test]
fn golden_aupro_and_aupimo_of_anomalib() {
    let figures: Figures = serde_json::from_str(include_str!("golden/anomalib.json")).unwrap();
    assert!(figures.cases.len() >= 4);
    for case in figures.cases {
        let which = |i: &usize| *i < case.good || *i >= GOOD;
        let pictures: Vec<_> = (0..GOOD + DEFECTIVE).filter(which).map(|i| picture(i, case.step)).collect();
        let all = curve(&pictures);
        let of = format!("{} good, step {}", case.good, case.step);
        for (limit, expected) in [(0.3, case.aupro), (0.05, case.aupro_005)] {
            let found = all.aupro(limit).unwrap();
            println!("{of}, AUPRO {limit}: {found} {expected}");
            // Its sums over pixels are in float32.
            assert!((found - expected).abs() < 2e-6, "{of}, AUPRO {limit}: {found} {expected}");
        }
        let Some(expected) = case.aupimo else { continue };
        let (good, defective) = pictures.split_at(case.good);
        // One by one with few good pictures; with many the mean says it.
        let one_by_one = if case.good < GOOD { DEFECTIVE } else { 0 };
        for (j, expected) in expected.iter().take(one_by_one).enumerate() {
            let one = [good, &defective[j..=j]].concat();
            let found = curve(&one).aupimo().unwrap();
            println!("{of}, AU-PIMO {j}: {found} {expected}");
            // Its limits are the nearest rates that its thresholds reach: up to 2 % off.
            assert!((found - expected).abs() < 2e-3, "{of}, AU-PIMO of picture {j}: {found} {expected}");
        }
        let mean = expected.iter().sum::<f64>() / expected.len() as f64;
        assert!((all.aupimo().unwrap() - mean).abs() < 2e-3, "{of}, mean AU-PIMO");
    }
}
