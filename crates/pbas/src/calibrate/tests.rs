use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::doctor::support::pictures_for;

const RARITY: Scoring = Scoring::Rarity { top_share: 0.01 };

fn calibration(pictures_a_head: usize, heads: usize, rate: f64) -> Calibration {
    let scores = |h: usize| (0..pictures_a_head).map(|i| (i * heads + h) as f64).collect::<Vec<_>>().into();
    Calibration::new((0..heads).map(scores).collect(), vec![0.0, 1.0].into(), true, rate, RARITY).unwrap()
}

#[test]
fn promises_follow_numbers_of_pictures() {
    // Three heads, two must agree: each is held to 2/3 of the wanted rate, which 1 / (149 + 1) proves for 1 %.
    let p = calibration(149, 3, 0.01).promise();
    assert!(p.is_proven() && (p.proven_rate.unwrap() - 0.01).abs() < 1e-12);
    assert_eq!((p.pictures, p.pictures_needed), (447, 447));
    // Few pictures are dealt into five folds; with more, as the doctor says too, there are three. Folds that the rule would not have stay.
    let needed = |each, heads, rate| calibration(each, heads, rate).promise().pictures_needed;
    for rate in [0.1, 0.05, 0.02, 0.01] {
        assert_eq!(needed(6, 5, rate), pictures_for(rate, Folds::Auto), "{rate}");
    }
    assert_eq!((needed(6, 3, 0.01), needed(6, 5, 0.01)), (447, 447));
    assert_eq!(needed(100, 5, 0.01), 5 * 166);
    let p = calibration(148, 3, 0.01).promise();
    assert!(!p.is_proven());
    assert!((p.proven_rate.unwrap() - 1.5 / 149.0).abs() < 1e-12);
    // The highest of 99 scores: Beta(1, 99), whose 95 % point is 1 - 0.05^(1 / 99).
    let p = calibration(99, 1, 0.01).promise();
    assert!(p.is_proven() && (p.confident_rate.unwrap() - (1.0 - 0.05f64.powf(1.0 / 99.0))).abs() < 1e-6);
    let mut seen = calibration(20, 1, 0.1);
    seen.held_out = false;
    assert_eq!((seen.promise().proven_rate, seen.promise().is_proven()), (None, false));
}

#[test]
fn more_than_half_of_the_heads_must_agree() {
    let c = calibration(30, 3, 0.05);
    let high = 1e3;
    assert!(!c.judge(&[high, 0.0, 0.0], RARITY).rejected, "one of three");
    let two = c.judge(&[high, 0.0, high], RARITY);
    assert!(two.rejected && two.p_value < 0.05 && two.image_score > c.threshold);
    assert_eq!([1, 2, 3, 4, 5].map(quorum), [1, 2, 2, 3, 3]);
    // Verdict, score and p-value say the same everywhere.
    for i in 0..900 {
        let s = f64::from(i) * 0.2;
        let j = c.judge(&[s, s, s], RARITY);
        assert_eq!(j.rejected, j.image_score > c.threshold);
        assert_eq!(j.rejected, j.p_value < 0.05, "{s}: {}", j.p_value);
    }
}

#[test]
fn published_scores_keep_their_scale() {
    let heads = vec![(0..40).map(|i| f64::from(i) * 0.1 - 3.0).collect::<Vec<_>>().into()];
    let c = Calibration::new(heads, vec![0.5, 0.6].into(), true, 0.1, Scoring::Sigmoid).unwrap();
    assert!(c.threshold > 0.5 && c.threshold < 1.0, "{}", c.threshold);
    for i in 0..200 {
        let logit = f64::from(i) * 0.05 - 4.0;
        let j = c.judge(&[logit], Scoring::Sigmoid);
        assert_eq!(j.rank_score, logit);
        assert_eq!(j.rejected, j.image_score > c.threshold, "{logit}");
    }
}

/// The promise as a whole, with heads whose scores hang together as real ones do: a new good picture is rejected no more often
/// than proven.
#[test]
fn promise_of_three_heads_holds_over_many_draws() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (own, rate) in [(0.2, 0.1), (1.0, 0.1), (5.0, 0.1), (0.5, 0.2)] {
        let (draws, mut rejected) = (4000, 0u32);
        for _ in 0..draws {
            let mut noise = || -(1.0 - rng.random::<f64>()).ln();
            let heads: Vec<GoodScores> =
                (0..3).map(|_| (0..19).map(|_| noise() + own * noise()).collect::<Vec<_>>().into()).collect();
            let picture = noise();
            let new = [picture + own * noise(), picture + own * noise(), picture + own * noise()];
            let c = Calibration::new(heads, vec![0.0].into(), true, rate, RARITY).unwrap();
            assert!(c.promise().is_proven());
            rejected += u32::from(c.judge(&new, RARITY).rejected);
        }
        let (seen, noise) = (f64::from(rejected) / f64::from(draws), 4.0 * (rate / f64::from(draws)).sqrt());
        assert!(seen <= rate + noise, "{own}: {seen} above {rate}");
    }
}

#[test]
fn scales_of_maps_are_those_of_the_patches() {
    let pictures = [vec![1.0, 3.0], vec![1.0, 5.0]];
    let scale = patch_scale(pictures.iter(), RARITY);
    assert!((scale.mean - 2.5).abs() < 1e-12 && (scale.deviation - (11.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert_eq!(scale.apply(2.5), 0.0);
    assert_eq!(patch_scale(pictures.iter(), Scoring::Sigmoid), PatchScale::IDENTITY);
    assert!(patch_scale([vec![1.0; 4]].iter(), RARITY).deviation > 0.0);
}

#[test]
fn another_rate_keeps_the_old_promise_once() {
    let mut c = calibration(30, 3, 0.05);
    let old = c.promise();
    c.change_rate(0.05, RARITY).unwrap();
    assert!(c.history.is_empty(), "nothing changed");
    c.change_rate(0.2, RARITY).unwrap();
    assert_eq!((c.history.as_slice(), c.false_reject_rate), ([old].as_slice(), 0.2));
    assert!(c.change_rate(0.9, RARITY).is_err());
    assert_eq!(c.history.len(), 1);
}

#[test]
fn renewal_keeps_the_old_promise() {
    let mut c = calibration(30, 3, 0.05);
    let old = c.promise();
    let values: Vec<f64> = (0..99).map(|i| c.value(&[f64::from(i); 3], RARITY)).collect();
    c.renew(values, vec![0.1; 99], 0.01, RARITY).unwrap();
    assert_eq!(c.history, [old]);
    let p = c.promise();
    assert!(p.is_proven() && p.pictures == 99);
    assert!(!c.judge(&[50.0; 3], RARITY).rejected && c.judge(&[1e4; 3], RARITY).rejected);
    let before = c.clone();
    assert!(c.renew(vec![f64::NAN], vec![0.0], 0.01, RARITY).is_err());
    assert_eq!(c, before, "a refused renewal changes nothing");
}

#[test]
fn bad_rates_are_refused() {
    for rate in [0.0, -0.1, 0.51, 1.0, f64::NAN, f64::INFINITY] {
        let text = check_rate(rate).unwrap_err().to_string();
        assert!(text.contains("expected 0.000001 to 0.5"), "{text}");
    }
}

#[test]
fn suspects_stand_out_of_their_own_head() {
    let mut scores: Vec<(usize, f64)> = (0..40).map(|i| (i % 2, (i / 2 % 7) as f64 * 0.3)).collect();
    assert!(suspects(&scores, 4.0).is_empty());
    scores[6].1 = 30.0;
    scores[9].1 = 50.0;
    assert_eq!(suspects(&scores, 4.0), [9, 6]);
    assert!(suspects(&[(0, 0.0), (0, 0.1), (0, 90.0)], 4.0).is_empty(), "too few to say");
    // Six pictures a head, whose levels differ: one far above its own head's, though not above another's.
    let mut few: Vec<(usize, f64)> =
        (0..30).map(|i| (i % 5, (i % 5) as f64 * 20.0 + (i / 5) as f64 * 0.1)).collect();
    assert!(suspects(&few, 4.0).is_empty());
    few[10].1 = 7.0;
    assert_eq!(suspects(&few, 4.0), [10]);
}
