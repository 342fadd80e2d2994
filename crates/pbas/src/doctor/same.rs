//! Findings about pictures that are the same, or nearly: duplicates, leakage, contradictions.

use super::duplicates::{Near, Pair, exact_groups, join, near};
use super::report::{Finding, Kind, Severity, Shown};
use super::{Role, Seen, named};
use crate::words::counted;

/// Pictures of which none is farther than this (in grey levels) from another are all the same.
const IDENTICAL_LEVELS: f64 = 0.2;

/// What was found.
pub(super) struct Same {
    pub findings: Vec<Finding>,
    /// Good pictures, each group of duplicates and near duplicates counted once.
    pub different: usize,
    /// Distance of each picture to the nearest other one.
    pub nearest: Vec<Option<f64>>,
}

pub(super) fn find(seen: &[Seen<'_>]) -> Same {
    let digests: Vec<[u8; 32]> = seen.iter().map(|s| s.look.sha256).collect();
    let exact = exact_groups(&digests);
    let mut group: Vec<usize> = (0..seen.len()).collect();
    for members in &exact {
        members.iter().for_each(|&i| group[i] = members[0]);
    }
    let signatures: Vec<Option<&[f32]>> =
        seen.iter().map(|s| (!s.look.is_blank()).then_some(s.look.signature.as_slice())).collect();
    let Near { pairs, nearest } = near(&signatures, &group);

    let is_good = |i: usize| seen[i].picture.role == Role::Good;
    let mut findings = Vec::new();
    let all_exact: Vec<(usize, usize)> =
        exact.iter().flat_map(|g| g.iter().skip(1).map(|&i| (g[0], i))).collect();
    let near_pairs: Vec<(usize, usize)> = pairs.iter().map(|p| (p.first, p.second)).collect();

    let good: Vec<usize> = (0..seen.len()).filter(|&i| is_good(i)).collect();
    let within = |pairs: &[(usize, usize)]| {
        let inside: Vec<_> = pairs.iter().copied().filter(|&(a, b)| is_good(a) && is_good(b)).collect();
        join(&inside)
    };
    // Members of an exact group may lie on both sides; pairs with its first member lose none of the good ones, which come
    // first in every list.
    let (exact_good, near_good) = (within(&all_exact), within(&[&all_exact[..], &near_pairs].concat()));
    let repeated = |groups: &[Vec<usize>]| groups.iter().map(|g| g.len() - 1).sum::<usize>();
    let different = good.len() - repeated(&near_good);

    let alike = good.len() > 1 && good.iter().all(|&i| nearest[i].is_some_and(|d| d < IDENTICAL_LEVELS));
    if good.len() > 1 && (different == 1 || alike) {
        findings.push(Finding {
            severity: Severity::Error,
            kind: Kind::Identical,
            message: format!("all {} good pictures are identical or nearly so", good.len()),
            advice: "they show one part once: take pictures of different parts, each placed anew".into(),
            shown: vec![],
        });
    } else {
        findings.extend(duplicates(seen, &exact_good, &near_good, &pairs));
    }
    findings.extend(across(seen, &exact, &pairs));
    Same { findings, different: if alike { 1 } else { different }, nearest }
}

fn shown(seen: &[Seen<'_>], groups: &[Vec<usize>], detail: impl Fn(&[usize]) -> String) -> Vec<Shown> {
    let names = |g: &[usize]| g.iter().map(|&i| seen[i].picture.name.clone()).collect();
    groups.iter().map(|g| Shown { pictures: names(g), detail: detail(g) }).collect()
}

/// The widest difference within a group, in words.
fn levels(group: &[usize], pairs: &[Pair]) -> String {
    let inside = pairs.iter().filter(|p| group.contains(&p.first) && group.contains(&p.second));
    let widest = inside.map(|p| p.levels).fold(0.0, f64::max);
    format!("differ by {widest:.2} grey levels")
}

fn duplicates(seen: &[Seen<'_>], exact: &[Vec<usize>], near: &[Vec<usize>], pairs: &[Pair]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let advice =
        "keep one of each: repeated pictures make the set look larger, and the threshold's promise false";
    let extra = |groups: &[Vec<usize>]| groups.iter().map(|g| g.len() - 1).sum::<usize>();
    let second = |groups: &[Vec<usize>]| {
        let names: Vec<&str> = groups.iter().map(|g| seen[g[1]].name()).collect();
        named(names.into_iter())
    };
    if !exact.is_empty() {
        findings.push(Finding {
            severity: Severity::Warning,
            kind: Kind::Duplicates,
            message: format!(
                "{} the same file as another good picture: {}",
                are(extra(exact), "good picture"),
                second(exact)
            ),
            advice: advice.into(),
            shown: shown(seen, exact, |_| "the same bytes".into()),
        });
    }
    // Groups in which there is more than the exact duplicates.
    let new: Vec<Vec<usize>> = near
        .iter()
        .filter(|g| pairs.iter().any(|p| g.contains(&p.first) && g.contains(&p.second)))
        .cloned()
        .collect();
    if !new.is_empty() {
        findings.push(Finding {
            severity: Severity::Warning,
            kind: Kind::NearDuplicates,
            message: format!(
                "{} nearly the same as another: {}",
                are(extra(&new), "good picture"),
                second(&new)
            ),
            advice: format!("if they show one part taken twice, {advice}"),
            shown: shown(seen, &new, |g| levels(g, pairs)),
        });
    }
    findings
}

fn are(n: usize, what: &str) -> String {
    format!("{} {}", counted(n, what), if n == 1 { "is" } else { "are" })
}

/// Pictures on both sides: for training and in the test.
fn across(seen: &[Seen<'_>], exact: &[Vec<usize>], pairs: &[Pair]) -> Vec<Finding> {
    let role = |i: usize| seen[i].picture.role;
    let mut findings = Vec::new();
    // Each test picture beside the first good one that it equals.
    let mut same: Vec<Vec<usize>> = Vec::new();
    for g in exact {
        let Some(&first) = g.iter().find(|&&i| role(i) == Role::Good) else { continue };
        same.extend(g.iter().filter(|&&i| role(i) != Role::Good).map(|&i| vec![first, i]));
    }
    let mut close: Vec<(Vec<usize>, f64)> = Vec::new();
    for p in pairs {
        let (good, test) = match (role(p.first), role(p.second)) {
            (Role::Good, Role::Good) => continue,
            (Role::Good, _) => (p.first, p.second),
            (_, Role::Good) => (p.second, p.first),
            _ => continue,
        };
        let known = same.iter().chain(close.iter().map(|c| &c.0)).any(|g| g[1] == test);
        if !known {
            close.push((vec![good, test], p.levels));
        }
    }
    let defective = |g: &[usize]| role(g[1]) == Role::TestDefective;
    let name = |g: &Vec<usize>| seen[g[1]].name();
    let contradictions: Vec<Vec<usize>> = same.iter().filter(|g| defective(g)).cloned().collect();
    if !contradictions.is_empty() {
        findings.push(Finding {
            severity: Severity::Error,
            kind: Kind::Contradiction,
            message: format!(
                "{} filed as defective in the test and as good for training: {}",
                counted(contradictions.len(), "picture"),
                named(contradictions.iter().map(name))
            ),
            advice: "one of both is wrong: remove it there".into(),
            shown: shown(seen, &contradictions, |_| "the same bytes".into()),
        });
    }
    let leaked: Vec<Vec<usize>> = same.iter().filter(|g| !defective(g)).cloned().collect();
    let near_good: Vec<Vec<usize>> = close.iter().map(|c| c.0.clone()).collect();
    if leaked.len() + near_good.len() > 0 {
        let mut both = shown(seen, &leaked, |_| "the same bytes".into());
        both.extend(shown(seen, &near_good, |g| {
            let levels = close.iter().find(|c| c.0 == g).map_or(0.0, |c| c.1);
            format!("differ by {levels:.2} grey levels")
        }));
        let names: Vec<&str> = leaked.iter().chain(&near_good).map(name).collect();
        findings.push(Finding {
            severity: Severity::Warning,
            kind: Kind::Leakage,
            message: format!(
                "{} also for training ({} exactly, {} nearly): {}",
                are(names.len(), "test picture"),
                leaked.len(),
                near_good.len(),
                named(names.into_iter())
            ),
            advice: "the test's figures are better than the truth where pictures are known: remove them on one side".into(),
            shown: both,
        });
    }
    findings
}
