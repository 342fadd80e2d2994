//! The report as one self-contained page: thumbnails are in it, nothing is loaded.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use super::Examination;
use super::report::{Report, Shown};
use crate::words::{counted, percent};
use crate::{Error, ErrorKind, Result};

/// Pictures shown below a finding.
const MOST: usize = 48;
/// Pictures in each gallery at the end.
const GALLERY: usize = 12;
/// The name's ending makes the engine escape whatever is put in.
const NAME: &str = "page.html";

/// What the template is given.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    report: &'a Report,
    /// Base64 by name.
    thumbnails: BTreeMap<&'a str, String>,
    /// Wanted rate, pictures needed, more needed.
    rates: Vec<[String; 3]>,
    galleries: &'a [Gallery],
    facts: Vec<(&'static str, String)>,
    most: usize,
    version: &'static str,
}

#[derive(Serialize)]
struct Gallery {
    title: &'static str,
    about: &'static str,
    shown: Vec<Shown>,
}

/// The page; `title` names the set.
///
/// # Errors
/// None for a sound program: the template is part of it.
pub fn html(examination: &Examination, title: &str) -> Result<String> {
    let report = &examination.report;
    let galleries = galleries(report);
    let of_findings = report.findings.iter().flat_map(|f| f.shown.iter().take(MOST));
    let used = of_findings.chain(galleries.iter().flat_map(|g| &g.shown)).flat_map(|s| &s.pictures);
    let thumbnails: BTreeMap<&str, String> = used
        .filter_map(|name| Some((name.as_str(), STANDARD.encode(examination.thumbnails.get(name)?))))
        .collect();
    let rates: Vec<[String; 3]> = report
        .support
        .wanted
        .iter()
        .map(|w| [percent(w.rate), w.pictures.to_string(), w.more.to_string()])
        .collect();
    let mut environment = Environment::new();
    let broken = |e: minijinja::Error| {
        Error::new(ErrorKind::Unsupported, "cannot lay out the page of the report").with_source(e)
    };
    environment.add_template(NAME, include_str!("page.html")).map_err(broken)?;
    let template = environment.get_template(NAME).map_err(broken)?;
    let page = Page {
        title,
        report,
        thumbnails,
        rates,
        galleries: &galleries,
        facts: facts(report),
        most: MOST,
        version: env!("CARGO_PKG_VERSION"),
    };
    template.render(Serde(&page)).map_err(broken)
}

/// The pictures most like and least like the rest: a person sees at once whether they belong together.
fn galleries(report: &Report) -> Vec<Gallery> {
    let mut ranked: Vec<(&str, f64)> = report
        .pictures
        .iter()
        .filter(|p| p.role == "good")
        .map(|p| (p.name.as_str(), p.unlike.unwrap_or(0.0)))
        .collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let shown = |(name, unlike): &(&str, f64)| Shown {
        pictures: vec![(*name).to_owned()],
        detail: format!("{unlike:+.1} deviations"),
    };
    let few = ranked.len() <= GALLERY;
    let mut galleries = Vec::new();
    if !ranked.is_empty() {
        galleries.push(Gallery {
            title: if few { "The good pictures" } else { "Typical good pictures" },
            about: "The smaller the number, the more a picture has in common with its neighbours.",
            shown: ranked.iter().take(GALLERY).map(shown).collect(),
        });
    }
    if !few {
        galleries.push(Gallery {
            title: "Good pictures least like the rest",
            about: "From 4 deviations on a picture may be named above; the others are shown so that you can look.",
            shown: ranked.iter().rev().take(GALLERY).map(shown).collect(),
        });
    }
    galleries
}

/// The values that most pictures have, with their numbers.
fn most_frequent(counts: &BTreeMap<String, usize>) -> String {
    const NAMED: usize = 4;
    let mut ranked: Vec<_> = counts.iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut text: Vec<String> = ranked.iter().take(NAMED).map(|(k, n)| format!("{k} ({n})")).collect();
    if ranked.len() > NAMED {
        text.push(format!("{} others", ranked.len() - NAMED));
    }
    text.join(", ")
}

/// What the set is, by name: for the page and for the command line.
#[must_use]
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut split = |name, s: &super::report::Split| {
        let mut text = counted(s.listed, "picture");
        if s.readable < s.listed {
            text.push_str(&format!(", {} readable", s.readable));
        }
        if s.distinct < s.readable {
            text.push_str(&format!(", {} different files", s.distinct));
        }
        for counts in [&s.sizes, &s.formats, &s.colours] {
            text.push_str(&format!("; {}", most_frequent(counts)));
        }
        if s.turned > 0 {
            text.push_str(&format!("; {} turned by EXIF", s.turned));
        }
        facts.push((name, text));
    };
    split("good", &report.good);
    if let Some(test) = &report.test {
        split("test", test);
    }
    if let Some(q) = &report.quality {
        facts.push((
            "light",
            format!(
                "mean grey level {:.0} of 255 (robust deviation {:.1}); clipped black {}, white {} of the usual picture",
                q.level,
                q.level_deviation,
                percent(q.black),
                percent(q.white)
            ),
        ));
    }
    facts.push(("pose", report.pose.text()));
    facts.push(("promise", report.support.text()));
    if let Some(cost) = &report.cost {
        facts.push(("training", cost.text()));
    }
    facts
}
