//! Findings about what pictures show: blank ones, blur, light, pictures unlike the rest.

use super::report::{Finding, Kind, Quality, Severity};
use super::unlike::{Crowd, Unlike};
use super::{Role, Seen, each, named};
use crate::statistics::{Robust, quantile};
use crate::words::{counted, percent};

/// A comparison with the rest needs so many.
const FEWEST: usize = 5;
/// A picture is blurred if its sharpness lies so many robust deviations below the median...
const BLUR_DEVIATIONS: f64 = 5.0;
/// ...and its finest details have less than 63 % of the usual power beside coarser ones (decimal logarithm).
const BLUR_LOG: f64 = -0.2;
/// A picture is dark or bright if the logarithm of its mean lies so many robust deviations off...
const LIGHT_DEVIATIONS: f64 = 6.0;
/// ...and its mean is off by this factor at least.
const LIGHT_FACTOR: f64 = 1.3;
/// A picture is clipped if it has so much more black or white than the others (share of the pixels).
const CLIPPED_MORE: f64 = 0.05;
/// The set is clipped if the usual picture has so much.
const CLIPPED_USUAL: f64 = 0.05;

impl Quality {
    /// Of the good pictures.
    pub(super) fn of(good: &[Seen<'_>]) -> Option<Self> {
        let of = |f: &dyn Fn(&Seen<'_>) -> f64| good.iter().map(f).collect::<Vec<f64>>();
        let level = Robust::of(&of(&|s| s.look.light.mean), 0.0)?;
        let sharp: Vec<f64> = good.iter().filter_map(|s| s.look.sharpness).collect();
        let sharp = Robust::of(&sharp, 0.0);
        Some(Self {
            level: level.median,
            level_deviation: level.deviation,
            black: quantile(&of(&|s| s.look.light.black), 0.5)?,
            white: quantile(&of(&|s| s.look.light.white), 0.5)?,
            sharpness: sharp.map(|s| s.median),
            sharpness_deviation: sharp.map(|s| s.deviation),
        })
    }
}

pub(super) fn findings(good: &[Seen<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let blank: Vec<&Seen<'_>> = good.iter().filter(|s| s.look.is_blank()).collect();
    if !blank.is_empty() {
        let all = blank.len() == good.len();
        findings.push(Finding {
            severity: if all { Severity::Error } else { Severity::Warning },
            kind: Kind::Blank,
            message: if all {
                "every good picture is one plain colour and shows nothing".into()
            } else {
                format!(
                    "{} of one plain colour, which show nothing: {}",
                    counted(blank.len(), "good picture"),
                    named(blank.iter().map(|s| s.name()))
                )
            },
            advice: "look at camera, cap and light, and remove them".into(),
            shown: each(blank.iter().map(|s| (s.name(), format!("grey level {:.0}", s.look.light.mean)))),
        });
    }
    let shows: Vec<&Seen<'_>> = good.iter().filter(|s| !s.look.is_blank()).collect();
    if shows.len() >= FEWEST {
        findings.extend(blur(&shows));
        findings.extend(exposure(&shows));
    }
    if !shows.is_empty() {
        findings.extend(clipped(&shows));
    }
    findings
}

fn blur(good: &[&Seen<'_>]) -> Option<Finding> {
    let sharp: Vec<(&Seen<'_>, f64)> = good.iter().filter_map(|s| Some((*s, s.look.sharpness?))).collect();
    let usual = Robust::of(&sharp.iter().map(|s| s.1).collect::<Vec<_>>(), 0.02)?;
    let is_blurred = |v: f64| usual.above(v) < -BLUR_DEVIATIONS && v - usual.median < BLUR_LOG;
    let mut blurred: Vec<_> = sharp.into_iter().filter(|s| is_blurred(s.1)).collect();
    blurred.sort_by(|a, b| a.1.total_cmp(&b.1));
    let share = |v: f64| percent(10f64.powf(v - usual.median));
    (!blurred.is_empty()).then(|| Finding {
        severity: Severity::Warning,
        kind: Kind::Blur,
        message: format!(
            "{} much less sharp than the others: {}",
            counted(blurred.len(), "good picture"),
            named(blurred.iter().map(|s| s.0.name()))
        ),
        advice: "remove what is out of focus or moved: with it in training, a blurred part passes as good"
            .into(),
        shown: each(
            blurred.iter().map(|(s, v)| (s.name(), format!("finest detail {} of the usual", share(*v)))),
        ),
    })
}

fn exposure(good: &[&Seen<'_>]) -> Option<Finding> {
    let log = |s: &Seen<'_>| (s.look.light.mean + 1.0).ln();
    let usual = Robust::of(&good.iter().map(|s| log(s)).collect::<Vec<_>>(), 0.01)?;
    let off = |s: &Seen<'_>| log(s) - usual.median;
    let is_off =
        |s: &Seen<'_>| usual.above(log(s)).abs() > LIGHT_DEVIATIONS && off(s).abs() > LIGHT_FACTOR.ln();
    let mut odd: Vec<&Seen<'_>> = good.iter().copied().filter(|s| is_off(s)).collect();
    odd.sort_by(|a, b| off(b).abs().total_cmp(&off(a).abs()));
    let level = usual.median.exp() - 1.0;
    (!odd.is_empty()).then(|| Finding {
        severity: Severity::Warning,
        kind: Kind::Exposure,
        message: format!(
            "{} much darker or brighter than the others: {}",
            counted(odd.len(), "good picture"),
            named(odd.iter().map(|s| s.name()))
        ),
        advice: "keep light and exposure fixed; remove these, or take many such if the line's light is so"
            .into(),
        shown: each(
            odd.iter()
                .map(|s| (s.name(), format!("mean grey level {:.0}, usually {level:.0}", s.look.light.mean))),
        ),
    })
}

fn clipped(good: &[&Seen<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for white in [false, true] {
        let (word, share): (_, fn(&Seen<'_>) -> f64) =
            if white { ("white", |s| s.look.light.white) } else { ("black", |s| s.look.light.black) };
        let shares: Vec<f64> = good.iter().map(|s| share(s)).collect();
        let Some(usual) = Robust::of(&shares, 0.0) else { continue };
        let more = |s: &Seen<'_>| share(s) - usual.median;
        let is_odd = |s: &Seen<'_>| more(s) > CLIPPED_MORE.max(LIGHT_DEVIATIONS * usual.deviation);
        let mut odd: Vec<&Seen<'_>> = good.iter().copied().filter(|s| is_odd(s)).collect();
        odd.sort_by(|a, b| share(b).total_cmp(&share(a)));
        if !odd.is_empty() && good.len() >= FEWEST {
            findings.push(Finding {
                severity: Severity::Warning,
                kind: Kind::Clipped,
                message: format!(
                    "{} with much more clipped {word} than the others: {}",
                    counted(odd.len(), "good picture"),
                    named(odd.iter().map(|s| s.name()))
                ),
                advice: "where light is clipped, no defect can be seen: change exposure or light".into(),
                shown: each(odd.iter().map(|s| (s.name(), format!("{} {word}", percent(share(s)))))),
            });
        }
        if usual.median > CLIPPED_USUAL {
            findings.push(Finding {
                severity: Severity::Note,
                kind: Kind::Clipped,
                message: format!(
                    "{} of the usual picture is clipped {word}: nothing can be seen there",
                    percent(usual.median)
                ),
                advice: "no harm where it is the background; on the part, change exposure or light".into(),
                shown: vec![],
            });
        }
    }
    findings
}

/// How unlike the good pictures each picture is (for those that have features), and what follows.
pub(super) fn unlike(seen: &[Seen<'_>]) -> (Vec<Option<f64>>, Vec<Finding>) {
    let mut values = vec![None; seen.len()];
    let good: Vec<usize> = (0..seen.len())
        .filter(|&i| seen[i].picture.role == Role::Good && seen[i].look.features.is_some())
        .collect();
    let features: Vec<&[f32]> = good.iter().filter_map(|&i| seen[i].look.features.as_deref()).collect();
    let Some(crowd) = Crowd::new(&features) else { return (values, vec![]) };
    let mut odd: Vec<(usize, Unlike)> = Vec::new();
    for (&i, unlike) in good.iter().zip(crowd.members()) {
        values[i] = Some(unlike.deviations);
        if unlike.stands_out() {
            odd.push((i, unlike));
        }
    }
    let (mut test, mut strange) = (0, Vec::new());
    for (i, s) in seen.iter().enumerate().filter(|(_, s)| s.picture.role == Role::TestGood) {
        let Some(features) = s.look.features.as_deref() else { continue };
        let unlike = crowd.judge_other(features);
        values[i] = Some(unlike.deviations);
        test += 1;
        if unlike.stands_out() {
            strange.push((i, unlike));
        }
    }
    let mut findings = Vec::new();
    let mut finding = |mut odd: Vec<(usize, Unlike)>, kind, what: &str, rest: &str, advice: &str| {
        odd.sort_by(|a, b| b.1.deviations.total_cmp(&a.1.deviations));
        findings.push(Finding {
            severity: Severity::Warning,
            kind,
            message: format!(
                "{} unlike {rest}: {}",
                counted(odd.len(), what),
                named(odd.iter().map(|o| seen[o.0].name()))
            ),
            advice: advice.into(),
            shown: each(odd.iter().map(|(i, u)| {
                (seen[*i].name(), format!("{:.1} times as far from its neighbours as usual", u.ratio))
            })),
        });
    };
    if !odd.is_empty() {
        finding(
            odd,
            Kind::Unlike,
            "good picture",
            "the rest",
            "look at each: remove it if it is defective or shows another part; if it is good, take more like it",
        );
    }
    // One or two of many are what a rule of so many deviations leaves.
    if strange.len() * 10 > test {
        finding(
            strange,
            Kind::TestDiffers,
            "good test picture",
            "those for training",
            "the test was taken under other conditions: expect false rejects, or train with pictures of both",
        );
    }
    (values, findings)
}
