//! The doctor on rendered pictures with known faults: each is found and named, and a clean set is left in peace.

use std::fs;
use std::path::Path;

use image::{DynamicImage, ImageFormat, RgbImage};
use pbas::backbone::Backbone;
use pbas::demo::{DemoKind, render};
use pbas::doctor::report::{Finding, Kind, Readiness, Severity};
use pbas::doctor::{DoctorOptions, Examination, Look, Report, conclude, examine, html, pictures};
use pbas::image::{DecodeOptions, decode_rgb};
use pbas::settings::{Preset, Settings};
use pbas::train::observer::Silent;

fn washer(seed: u64) -> RgbImage {
    let p = render(DemoKind::Good, seed).picture;
    RgbImage::from_raw(p.width as u32, p.height as u32, p.data).unwrap()
}

fn save(dir: &Path, name: &str, picture: &RgbImage) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

fn washers(dir: &Path, seeds: std::ops::Range<u64>) {
    seeds.for_each(|seed| save(dir, &format!("{seed:03}.png"), &washer(seed)));
}

fn look_at(dir: &Path, backbone: bool, thumbnails: bool) -> Examination {
    let (set, odd) = pictures(dir).unwrap();
    let options = DoctorOptions {
        settings: Settings::preset(Preset::Fast),
        backbone: backbone.then(|| Backbone::embedded().unwrap()),
        cache_limit: 1 << 30,
        thumbnails,
    };
    let mut examination = examine(&set, &options, &Silent).unwrap();
    examination.report.add_test_oddities(&odd);
    examination
}

fn report(dir: &Path) -> Report {
    look_at(dir, false, false).report
}

fn find(report: &Report, kind: Kind) -> Option<&Finding> {
    report.findings.iter().find(|f| f.kind == kind)
}

#[track_caller]
fn found(report: &Report, kind: Kind, severity: Severity, parts: &[&str]) {
    let finding = find(report, kind).unwrap_or_else(|| panic!("no {kind:?} in {:#?}", report.findings));
    assert_eq!(finding.severity, severity, "{finding:#?}");
    for part in parts {
        assert!(finding.message.contains(part), "expected `{part}` in {finding:#?}");
    }
}

#[test]
fn a_clean_set_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    washers(dir.path(), 0..24);
    let examination = look_at(dir.path(), true, false);
    let r = &examination.report;
    assert_eq!(r.readiness, Readiness::Ready, "{:#?}", r.findings);
    assert_eq!(r.verdict, "ready");
    assert_eq!((r.good.listed, r.good.readable, r.good.distinct), (24, 24, 24));
    assert_eq!(r.good.sizes.get("320 x 320"), Some(&24));
    assert_eq!(r.good.formats.get("PNG"), Some(&24));
    // Five heads with four or five pictures each, of which three must agree.
    assert_eq!(r.support.pictures, 24);
    assert!((r.support.finest_rate - (4.0 / 6.0 + 1.0 / 5.0) / 3.0).abs() < 1e-12);
    let cost = r.cost.as_ref().unwrap();
    assert!(cost.seconds > 0.0 && cost.cache_bytes > 0, "{cost:?}");
    assert!(r.pictures.iter().all(|p| p.unlike.is_some() && p.sharpness.is_some()));
    assert!(examination.thumbnails.is_empty(), "none were asked for");
}

#[test]
fn each_fault_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("train/good");
    washers(&good, 0..24);
    fs::copy(good.join("003.png"), good.join("copy.png")).unwrap();
    let again =
        DynamicImage::ImageRgb8(washer(5)).resize_exact(240, 240, image::imageops::FilterType::Triangle);
    again.save_with_format(good.join("again.jpg"), ImageFormat::Jpeg).unwrap();
    save(&good, "blurred.png", &image::imageops::blur(&washer(40), 3.0));
    let mut dark = washer(41);
    dark.iter_mut().for_each(|v| *v /= 3);
    save(&good, "dark.png", &dark);
    save(&good, "blank.png", &RgbImage::from_pixel(320, 320, image::Rgb([90, 90, 90])));
    fs::write(good.join("broken.png"), "no picture").unwrap();
    let noise = RgbImage::from_fn(320, 320, |x, y| {
        image::Rgb([(((x / 7 * 131) ^ (y / 5 * 197)).wrapping_mul(2_654_435_761) >> 24) as u8; 3])
    });
    save(&good, "other_part.png", &noise);
    save(&good, "wide.png", &image::imageops::crop_imm(&washer(42), 0, 40, 320, 240).to_image());

    let test = dir.path().join("test");
    save(&test, "good/100.png", &washer(100));
    fs::create_dir_all(test.join("scratch")).unwrap();
    fs::copy(good.join("007.png"), test.join("good/leaked.png")).unwrap();
    fs::copy(good.join("009.png"), test.join("scratch/both.png")).unwrap();

    let examination = look_at(dir.path(), true, true);
    let r = &examination.report;
    assert_eq!(r.readiness, Readiness::NotReady);
    assert!(
        r.verdict.starts_with("not ready: 1 picture filed as defective in the test and as good"),
        "{}",
        r.verdict
    );
    found(r, Kind::Contradiction, Severity::Error, &["`test/scratch/both.png`"]);
    found(
        r,
        Kind::Leakage,
        Severity::Warning,
        &["1 test picture is also for training", "`test/good/leaked.png`"],
    );
    found(r, Kind::Unreadable, Severity::Warning, &["1 picture cannot be read", "`train/good/broken.png`"]);
    found(r, Kind::Duplicates, Severity::Warning, &["`train/good/copy.png`"]);
    found(r, Kind::NearDuplicates, Severity::Warning, &["1 good picture is nearly the same"]);
    found(r, Kind::Blur, Severity::Warning, &["`train/good/blurred.png`"]);
    found(r, Kind::Exposure, Severity::Warning, &["`train/good/dark.png`"]);
    found(
        r,
        Kind::Blank,
        Severity::Warning,
        &["1 good picture of one plain colour", "`train/good/blank.png`"],
    );
    found(r, Kind::Unlike, Severity::Warning, &["`train/good/other_part.png`"]);
    found(
        r,
        Kind::Proportions,
        Severity::Warning,
        &["1 good picture of other proportions than the usual 320 x 320"],
    );
    found(
        r,
        Kind::Formats,
        Severity::Note,
        &["1 good picture in another format than the usual PNG: `train/good/again.jpg`"],
    );
    let near = &find(r, Kind::NearDuplicates).unwrap().shown[0];
    assert_eq!(near.pictures, ["train/good/005.png", "train/good/again.jpg"]);
    assert_eq!(find(r, Kind::Blur).unwrap().shown.len(), 1);
    // Worst first, and every message a fragment that names pictures.
    assert!(r.findings.is_sorted_by_key(|f| (f.severity, f.kind)));
    assert_eq!(r.warnings().count(), r.findings.iter().filter(|f| f.severity != Severity::Note).count());
    assert_eq!((r.good.listed, r.good.readable, r.good.distinct), (32, 31, 30));
    assert_eq!(r.support.pictures, 29, "a copy and a near copy count once");

    let json = serde_json::to_value(r).unwrap();
    assert_eq!(json["readiness"], "not_ready");
    assert_eq!(json["pictures"].as_array().unwrap().len(), 34);

    let page = html(&examination, "washers <one> & \"two\"").unwrap();
    assert!(page.contains("washers &lt;one&gt; &amp; &quot;two&quot;"), "the title is escaped");
    assert!(page.contains("data:image/jpeg;base64,/9j/"), "thumbnails are in the page");
    for finding in &r.findings {
        let kept = finding.message.split('`').next().unwrap();
        assert!(page.contains(kept), "{kept}");
    }
    for outside in ["http:", "https:", "<script", "url("] {
        assert!(!page.contains(outside), "the page loads nothing: {outside}");
    }
}

#[test]
fn edge_cases_are_clear_sentences() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);

    washers(&at("few"), 0..3);
    let r = report(&at("few"));
    assert_eq!(r.readiness, Readiness::NotReady);
    found(&r, Kind::TooFew, Severity::Error, &["only 3 good pictures: fewer than 5 say too little"]);

    washers(&at("eight"), 0..8);
    let r = report(&at("eight"));
    assert_eq!(r.readiness, Readiness::UsableWithWarnings);
    found(
        &r,
        Kind::TooFew,
        Severity::Warning,
        &["only 8 good pictures", "a false-reject rate of 42 % at the finest"],
    );

    for i in 0..12 {
        save(&at("same"), &format!("{i}.png"), &washer(1));
    }
    let r = report(&at("same"));
    assert_eq!(r.readiness, Readiness::NotReady);
    found(&r, Kind::Identical, Severity::Error, &["all 12 good pictures are identical"]);
    found(&r, Kind::TooFew, Severity::Error, &["only 1 different picture among 12 good ones"]);
    assert!(find(&r, Kind::Duplicates).is_none(), "said once");

    // The same picture written anew each time is no better.
    for i in 0..12u8 {
        let path = at("anew").join(format!("{i}.jpg"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::File::create(path).unwrap();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 88 + i)
            .encode_image(&washer(1))
            .unwrap();
    }
    let r = report(&at("anew"));
    found(&r, Kind::Identical, Severity::Error, &["all 12 good pictures are identical or nearly so"]);
    assert_eq!(r.support.pictures, 1);

    for i in 0..12u8 {
        save(&at("plain"), &format!("{i}.png"), &RgbImage::from_pixel(64, 64, image::Rgb([10 * i, 80, 80])));
    }
    let r = report(&at("plain"));
    assert_eq!(r.readiness, Readiness::NotReady);
    found(&r, Kind::Blank, Severity::Error, &["every good picture is one plain colour"]);

    washers(&at("sizes"), 0..12);
    let small = image::imageops::resize(&washer(30), 160, 160, image::imageops::FilterType::Triangle);
    save(&at("sizes"), "small.png", &small);
    let r = report(&at("sizes"));
    found(
        &r,
        Kind::Sizes,
        Severity::Note,
        &["1 good picture of another size than the usual 320 x 320: `small.png`"],
    );

    washers(&at("broken"), 0..12);
    fs::write(at("broken").join("bad.png"), "").unwrap();
    let r = report(&at("broken"));
    assert_eq!(r.readiness, Readiness::UsableWithWarnings);
    let bad = find(&r, Kind::Unreadable).unwrap();
    assert!(bad.shown[0].detail.contains("is empty"), "{bad:?}");

    fs::create_dir_all(at("none")).unwrap();
    fs::write(at("none").join("bad.png"), "").unwrap();
    let r = report(&at("none"));
    assert_eq!(r.readiness, Readiness::NotReady);
    found(&r, Kind::NothingReadable, Severity::Error, &["no good picture could be read, of 1"]);
    assert!(r.quality.is_none());

    fs::create_dir_all(at("empty")).unwrap();
    assert!(pictures(&at("empty")).unwrap_err().to_string().starts_with("no good pictures in"));
}

#[test]
fn looks_made_elsewhere_give_the_same_report() {
    let dir = tempfile::tempdir().unwrap();
    washers(dir.path(), 0..12);
    fs::copy(dir.path().join("002.png"), dir.path().join("copy.png")).unwrap();
    let (set, _) = pictures(dir.path()).unwrap();
    let looks: Vec<_> = set
        .iter()
        .map(|p| {
            let bytes = fs::read(&p.path).unwrap();
            let picture = decode_rgb(&bytes, &p.name, &DecodeOptions::default())?;
            Look::at(&bytes, &picture, false)
        })
        .collect();
    let apart = conclude(&set, &looks, &Settings::preset(Preset::Fast));
    assert_eq!(apart, report(dir.path()));
    let warnings: Vec<&str> = apart.warnings().collect();
    assert_eq!(warnings, ["1 good picture is the same file as another good picture: `copy.png`"]);
}
