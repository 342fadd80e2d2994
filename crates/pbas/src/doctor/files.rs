//! Findings about files: unreadable ones, sizes, proportions, formats, colour modes, EXIF turns.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Finding, Kind, Severity, Split};
use super::{Look, Picture, Role, Seen, each, named, reason};
use crate::Result;
use crate::words::counted;

/// Proportions that differ by less than this are one: cameras and crops are a pixel off.
const SAME_PROPORTIONS: f64 = 0.02;

/// Counts of the pictures of a split.
pub(super) fn split<'a>(listed: usize, seen: impl Iterator<Item = &'a Seen<'a>> + Clone) -> Split {
    let by = |key: &dyn Fn(&Seen<'_>) -> String| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        seen.clone().for_each(|s| *counts.entry(key(s)).or_default() += 1);
        counts
    };
    let count = |is: &dyn Fn(&Seen<'_>) -> bool| seen.clone().filter(|s| is(s)).count();
    Split {
        listed,
        readable: seen.clone().count(),
        distinct: seen.clone().map(|s| s.look.sha256).collect::<BTreeSet<_>>().len(),
        sizes: by(&size),
        formats: by(&|s| s.look.header.format.clone()),
        colours: by(&|s| s.look.header.colour.clone()),
        coloured: count(&|s| s.look.light.coloured),
        turned: count(&|s| s.look.header.turned),
    }
}

fn size(s: &Seen<'_>) -> String {
    format!("{} x {}", s.look.width, s.look.height)
}

pub(super) fn findings(pictures: &[Picture], looks: &[Result<Look>], seen: &[Seen<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let good: Vec<&Seen<'_>> = seen.iter().filter(|s| s.picture.role == Role::Good).collect();
    let listed = pictures.iter().filter(|p| p.role == Role::Good).count();
    let unreadable: Vec<(&str, String)> = pictures
        .iter()
        .zip(looks)
        .filter_map(|(p, look)| Some((p.name.as_str(), reason(look.as_ref().err()?))))
        .collect();
    if good.is_empty() {
        findings.push(Finding {
            severity: Severity::Error,
            kind: Kind::NothingReadable,
            message: format!("no good picture could be read, of {listed}"),
            advice: String::new(),
            shown: vec![],
        });
    }
    if !unreadable.is_empty() {
        findings.push(Finding {
            severity: Severity::Warning,
            kind: Kind::Unreadable,
            message: format!(
                "{} cannot be read and will be left out: {}",
                counted(unreadable.len(), "picture"),
                named(unreadable.iter().map(|u| u.0))
            ),
            advice: "copy the files again from where they came, or remove them".into(),
            shown: each(unreadable.into_iter()),
        });
    }
    findings.extend(shapes(&good));
    findings.extend(mixed(&good));
    findings.extend(test_differs(&good, seen));
    findings
}

/// The value that most have, and the pictures that have another.
fn minority<'a, K: Ord + Clone>(
    seen: &[&'a Seen<'a>],
    key: impl Fn(&Seen<'_>) -> K,
) -> Option<(K, Vec<&'a Seen<'a>>)> {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    seen.iter().for_each(|s| *counts.entry(key(s)).or_default() += 1);
    let most = counts.iter().max_by_key(|(_, n)| **n)?.0.clone();
    let others: Vec<_> = seen.iter().copied().filter(|s| key(s) != most).collect();
    (!others.is_empty()).then_some((most, others))
}

fn shapes(good: &[&Seen<'_>]) -> Option<Finding> {
    let (most, others) = minority(good, |s| (s.look.width, s.look.height))?;
    let proportions = |w: usize, h: usize| (w as f64 / h as f64).ln();
    let usual = proportions(most.0, most.1);
    let stretched: Vec<&Seen<'_>> = others
        .iter()
        .copied()
        .filter(|s| (proportions(s.look.width, s.look.height) - usual).abs() > SAME_PROPORTIONS)
        .collect();
    let list = |of: &[&Seen<'_>]| each(of.iter().map(|s| (s.name(), size(s))));
    let usual = format!("{} x {}", most.0, most.1);
    Some(if stretched.is_empty() {
        Finding {
            severity: Severity::Note,
            kind: Kind::Sizes,
            message: format!(
                "{} of another size than the usual {usual}: {}",
                counted(others.len(), "good picture"),
                named(others.iter().map(|s| s.name()))
            ),
            advice: "all are brought to one size; small ones show less detail".into(),
            shown: list(&others),
        }
    } else {
        Finding {
            severity: Severity::Warning,
            kind: Kind::Proportions,
            message: format!(
                "{} of other proportions than the usual {usual}: {}",
                counted(stretched.len(), "good picture"),
                named(stretched.iter().map(|s| s.name()))
            ),
            advice: "they would be stretched to the shape of the others: cut all to one shape, or train with `--fit pad`"
                .into(),
            shown: list(&stretched),
        }
    })
}

fn mixed(good: &[&Seen<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let word = |coloured: bool| if coloured { "colour" } else { "grey" };
    if let Some((most, others)) = minority(good, |s| s.look.light.coloured) {
        findings.push(Finding {
            severity: Severity::Warning,
            kind: Kind::Colours,
            message: format!(
                "{} in {} among pictures in {}: {}",
                counted(others.len(), "good picture"),
                word(!most),
                word(most),
                named(others.iter().map(|s| s.name()))
            ),
            advice: "one kind of camera and one mode should take all pictures".into(),
            shown: each(others.iter().map(|s| (s.name(), s.look.header.colour.clone()))),
        });
    } else if let Some((most, others)) = minority(good, |s| s.look.header.colour.clone()) {
        findings.push(Finding {
            severity: Severity::Note,
            kind: Kind::Colours,
            message: format!(
                "{} filed in another colour mode than the usual {most}: {}",
                counted(others.len(), "good picture"),
                named(others.iter().map(|s| s.name()))
            ),
            advice: "their content is grey or coloured as the others'; nothing needs to be done".into(),
            shown: each(others.iter().map(|s| (s.name(), s.look.header.colour.clone()))),
        });
    }
    if let Some((most, others)) = minority(good, |s| s.look.header.format.clone()) {
        findings.push(Finding {
            severity: Severity::Note,
            kind: Kind::Formats,
            message: format!(
                "{} in another format than the usual {most}: {}",
                counted(others.len(), "good picture"),
                named(others.iter().map(|s| s.name()))
            ),
            advice: "the traces of JPEG compression are learnt as what good parts look like".into(),
            shown: each(others.iter().map(|s| (s.name(), s.look.header.format.clone()))),
        });
    }
    let turned: Vec<_> = good.iter().filter(|s| s.look.header.turned).collect();
    if !turned.is_empty() {
        let all = turned.len() == good.len();
        findings.push(Finding {
            severity: if all { Severity::Note } else { Severity::Warning },
            kind: Kind::Turns,
            message: format!(
                "{} with an EXIF turn or mirror, which is done: {}",
                if all { "all good pictures are".into() } else { counted(turned.len(), "good picture") },
                named(turned.iter().map(|s| s.name()))
            ),
            advice: "make sure that the camera that will be used turns its pictures in the same way".into(),
            shown: each(turned.iter().map(|s| (s.name(), String::new()))),
        });
    }
    findings
}

/// A test whose pictures are made otherwise than those that were learnt from.
fn test_differs(good: &[&Seen<'_>], seen: &[Seen<'_>]) -> Option<Finding> {
    type Key = fn(&Seen<'_>) -> String;
    let keys: [(&str, Key); 3] = [
        ("size", size),
        ("format", |s| s.look.header.format.clone()),
        ("colour", |s| if s.look.light.coloured { "colour".into() } else { "grey".into() }),
    ];
    let test: Vec<&Seen<'_>> = seen.iter().filter(|s| s.picture.role != Role::Good).collect();
    let known = keys.map(|(_, key)| good.iter().map(|s| key(s)).collect::<BTreeSet<_>>());
    let differs = |s: &Seen<'_>| -> Vec<String> {
        let new = keys.iter().zip(&known).filter(|((_, key), known)| !known.contains(&key(s)));
        new.map(|((what, key), _)| format!("{what} {}", key(s))).collect()
    };
    let others: Vec<(&str, String)> = test
        .iter()
        .map(|s| (s.name(), differs(s).join(", ")))
        .filter(|(_, d)| !d.is_empty() && !good.is_empty())
        .collect();
    (!others.is_empty()).then(|| Finding {
        severity: Severity::Warning,
        kind: Kind::TestDiffers,
        message: format!(
            "{} of a size, format or colour that no picture for training has: {}",
            counted(others.len(), "test picture"),
            named(others.iter().map(|o| o.0))
        ),
        advice:
            "a model may tell them by how the file was made, and the figures of the test would say nothing"
                .into(),
        shown: each(others.into_iter()),
    })
}
