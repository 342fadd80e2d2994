//! Looks at a set of pictures before anything is trained on it: files, duplicates, leakage, blur, light, pose, pictures unlike
//! the rest, what false-reject rate their number supports, and what training will cost.
//!
//! ```text
//! list (set) -> one pass, each picture decoded once: Look (look) -> findings (files, same, quality) -> Report -> text, JSON, page
//! ```
//!
//! The two halves can be used apart: [`Look::at`] takes a picture that has been decoded anyway (as training and calibration do) and
//! [`conclude`] needs nothing but looks ([`training::warnings`]).

pub mod cost;
pub mod duplicates;
pub mod features;
mod files;
pub mod grey;
pub mod header;
pub mod look;
mod page;
pub mod part;
pub mod pose;
mod quality;
pub mod report;
mod same;
mod set;
pub mod support;
pub mod training;
pub mod unlike;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use self::cost::{Cost, Workload};
use self::features::WholePicture;
pub use self::look::Look;
pub use self::page::{facts, html};
use self::pose::Pose;
pub use self::report::Report;
use self::report::{Finding, Kind, PictureFacts, Quality, Readiness, Severity, Shown};
pub use self::set::{Picture, Role, pictures};
use self::support::Support;
use crate::backbone::{Backbone, hex};
use crate::error::chain;
use crate::features::ExtractScratch;
use crate::image::{DecodeOptions, Rgb8, read_rgb, read_rgb_and_bytes};
use crate::preprocess::InputSize;
use crate::settings::Settings;
use crate::train::observer::Observer;
use crate::words::{counted, percent};
use crate::{Error, ErrorKind, Result};

/// Fewer good pictures than this cannot be trained on in earnest.
pub const FEWEST: usize = 5;
/// Pictures whose features are extracted for the estimate of time.
const PROBES: usize = 3;

/// What is looked at, beside the files.
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// Settings that training would use: picture sizes and steps for the estimate, EXIF orientation for decoding.
    pub settings: Settings,
    /// Network for pictures unlike the rest and for the estimate; neither is made without it.
    pub backbone: Option<Backbone>,
    /// Bytes of features that training may keep in memory; for the estimate.
    pub cache_limit: u64,
    /// Whether thumbnails are kept, for [`html`].
    pub thumbnails: bool,
}

/// A report with what is shown beside it.
#[derive(Debug)]
pub struct Examination {
    /// The report.
    pub report: Report,
    /// Thumbnails (JPEG) by the pictures' names; empty where none were asked for.
    pub thumbnails: BTreeMap<String, Vec<u8>>,
}

/// Reads every picture once and reports.
///
/// # Errors
/// An interrupt, or a backbone without the layers that are needed. Pictures that cannot be read are findings.
pub fn examine(
    pictures: &[Picture],
    options: &DoctorOptions,
    observer: &dyn Observer,
) -> Result<Examination> {
    let decode =
        DecodeOptions { apply_orientation: options.settings.apply_orientation, ..DecodeOptions::default() };
    let network = options.backbone.as_ref().map(WholePicture::new).transpose()?;
    let spent = Mutex::new(Duration::ZERO);
    observer.begin("looking", pictures.len() as u64, "pictures");
    let work = |scratch: &mut ExtractScratch, picture: &Picture| {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped while looking at pictures"));
        }
        let start = Instant::now();
        let read = read_rgb_and_bytes(&picture.path, &decode);
        *spent.lock().expect("no panic while locked") += start.elapsed();
        let looked = read.and_then(|(decoded, bytes)| {
            let mut look = Look::at(&bytes, &decoded, options.thumbnails)?;
            // Defective pictures are looked at for duplicates alone.
            if let (Some(network), Role::Good | Role::TestGood) = (&network, picture.role) {
                look.features = Some(network.of(&decoded, scratch)?);
            }
            Ok(look)
        });
        observer.advance(1);
        Ok(looked)
    };
    let looks: Result<Vec<Result<Look>>> =
        pictures.par_iter().with_max_len(1).map_init(ExtractScratch::default, work).collect();
    observer.end();
    let mut looks = looks?;

    let decode_time = spent.into_inner().expect("no panic while locked") / pictures.len().max(1) as u32;
    let cost = match &options.backbone {
        Some(backbone) => cost_of(pictures, &looks, backbone, options, &decode, decode_time)?,
        None => None,
    };
    let mut thumbnails = BTreeMap::new();
    for (picture, look) in pictures.iter().zip(&mut looks) {
        if let Some(jpeg) = look.as_mut().ok().and_then(|l| l.thumbnail.take()) {
            thumbnails.insert(picture.name.clone(), jpeg);
        }
    }
    let mut report = conclude(pictures, &looks, &options.settings);
    report.cost = cost;
    Ok(Examination { report, thumbnails })
}

fn cost_of(
    pictures: &[Picture],
    looks: &[Result<Look>],
    backbone: &Backbone,
    options: &DoctorOptions,
    decode: &DecodeOptions,
    decode_time: Duration,
) -> Result<Option<Cost>> {
    let good = || pictures.iter().zip(looks).filter(|(p, _)| p.role == Role::Good);
    let size = |l: &Look| InputSize { height: l.height, width: l.width };
    let sizes: Vec<InputSize> = good().filter_map(|(_, l)| l.as_ref().ok()).map(size).collect();
    let readable = good().filter(|(_, l)| l.is_ok()).map(|(p, _)| p);
    let samples: Vec<Rgb8> = readable.take(PROBES).filter_map(|p| read_rgb(&p.path, decode).ok()).collect();
    if samples.is_empty() {
        return Ok(None);
    }
    let work = Workload {
        pictures: sizes.len(),
        sizes: &sizes,
        most_pixels: sizes.iter().map(|s| (s.width * s.height) as u64).max().unwrap_or(0),
        decode: decode_time,
        cache_limit: options.cache_limit,
    };
    cost::estimate(backbone, &options.settings, work, &samples).map(Some)
}

/// A picture that could be read.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    picture: &'a Picture,
    look: &'a Look,
}

impl Seen<'_> {
    fn name(&self) -> &str {
        &self.picture.name
    }
}

/// What looks say about a set. `looks` are those of `pictures`, one each, or why there is none; `settings` those of the
/// training that is to come.
#[must_use]
pub fn conclude(pictures: &[Picture], looks: &[Result<Look>], settings: &Settings) -> Report {
    let seen: Vec<Seen<'_>> = pictures
        .iter()
        .zip(looks)
        .filter_map(|(picture, look)| Some(Seen { picture, look: look.as_ref().ok()? }))
        .collect();
    let good: Vec<Seen<'_>> = seen.iter().copied().filter(|s| s.picture.role == Role::Good).collect();

    let mut findings = files::findings(pictures, looks, &seen);
    let same = same::find(&seen);
    findings.extend(same.findings);
    findings.extend(quality::findings(&good));
    let (unlike, more) = quality::unlike(&seen);
    findings.extend(more);
    let support = Support::of(same.different, settings.folds, settings.false_reject_rate);
    findings.extend(count_findings(good.len(), &support));
    findings.sort_by_key(|f| (f.severity, f.kind));

    let readiness = match findings.first().map(|f| f.severity) {
        Some(Severity::Error) => Readiness::NotReady,
        Some(Severity::Warning) => Readiness::UsableWithWarnings,
        _ => Readiness::Ready,
    };
    let split = |of_test: bool| {
        let belongs = |p: &Picture| (p.role != Role::Good) == of_test;
        let listed = pictures.iter().filter(|p| belongs(p)).count();
        (listed > 0).then(|| files::split(listed, seen.iter().filter(|s| belongs(s.picture))))
    };
    let facts = seen.iter().zip(&same.nearest).zip(&unlike).map(|((s, nearest), unlike)| PictureFacts {
        name: s.picture.name.clone(),
        role: s.picture.role.name(),
        width: s.look.width,
        height: s.look.height,
        format: s.look.header.format.clone(),
        colour: s.look.header.colour.clone(),
        turned: s.look.header.turned,
        sha256: hex(&s.look.sha256),
        light: s.look.light,
        sharpness: s.look.sharpness,
        part: s.look.part,
        nearest_levels: *nearest,
        unlike: *unlike,
    });
    Report {
        readiness,
        verdict: verdict(readiness, &findings),
        good: split(false).unwrap_or_default(),
        test: split(true),
        quality: Quality::of(&good),
        pose: Pose::of(&good.iter().map(|s| s.look).collect::<Vec<_>>()),
        support,
        cost: None,
        pictures: facts.collect(),
        findings,
    }
}

fn count_findings(readable: usize, support: &Support) -> Option<Finding> {
    let different = support.pictures;
    let few = if different == readable {
        format!("only {}", counted(readable, "good picture"))
    } else {
        format!("only {} among {readable} good ones", counted(different, "different picture"))
    };
    let (severity, message, advice) = match different {
        0 => return None, // Said already: nothing could be read.
        1..FEWEST => (
            Severity::Error,
            format!("{few}: fewer than {FEWEST} say too little of what good parts look like"),
            "take more pictures of good parts: 50 or more",
        ),
        FEWEST..10 => (
            Severity::Warning,
            format!(
                "{few}: they prove a false-reject rate of {} at the finest",
                percent(support.finest_rate)
            ),
            "take more pictures of good parts: 50 or more",
        ),
        _ => return None,
    };
    Some(Finding { severity, kind: Kind::TooFew, message, advice: advice.into(), shown: vec![] })
}

fn verdict(readiness: Readiness, findings: &[Finding]) -> String {
    let grave: Vec<&str> = findings
        .iter()
        .filter(|f| f.severity <= Severity::Warning)
        .map(|f| f.message.split(": ").next().unwrap_or(&f.message))
        .collect();
    let mut text = readiness.text().to_owned();
    for (i, reason) in grave.iter().take(3).enumerate() {
        text.push_str(if i == 0 { ": " } else { "; " });
        text.push_str(reason);
    }
    if grave.len() > 3 {
        text.push_str(&format!("; and {} more", grave.len() - 3));
    }
    text
}

/// The first names, and how many more there are.
fn named<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let count = names.len();
    let mut text = names.take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if count > SHOWN {
        text.push_str(&format!(" and {} more", count - SHOWN));
    }
    text
}

/// An error for people, as the detail of a picture that cannot be read.
fn reason(error: &Error) -> String {
    chain(error)
}

/// Each picture by itself, with a word on it.
fn each<'a>(pictures: impl Iterator<Item = (&'a str, String)>) -> Vec<Shown> {
    pictures.map(|(name, detail)| Shown { pictures: vec![name.to_owned()], detail }).collect()
}
