//! Heatmaps: sizes of the canvas, meaning of colours, hostile input, writing.

use pbas::ErrorKind;
use pbas::image::{DefectMask, Rgb8};
use pbas::report::heatmap::{ColourScale, HeatmapLabel, render, write_png};
use pbas::score::ScoreMap;

const SCALE: ColourScale = ColourScale { low: 1.0, high: 3.0 };
/// Rows above and below the panels, and columns between them: part of the layout that these tests fix.
const HEADER: usize = 50;
const FOOTER: usize = 28;
const GAP: usize = 6;

fn grey(width: usize, height: usize) -> Rgb8 {
    Rgb8 { width, height, data: vec![100; width * height * 3] }
}

fn flat(width: usize, height: usize, value: f32) -> ScoreMap {
    ScoreMap { width, height, values: vec![value; width * height] }
}

fn label(anomalous: bool) -> HeatmapLabel {
    HeatmapLabel { name: "test/scratch/001.png".into(), image_score: 3.25, threshold: 2.5, anomalous }
}

fn pixel(picture: &Rgb8, x: usize, y: usize) -> [u8; 3] {
    let at = 3 * (y * picture.width + x);
    picture.data[at..at + 3].try_into().unwrap()
}

/// Pixel of panel `panel` (0 picture, 1 overlay, 2 mask), of panels `width` wide.
fn panel_pixel(picture: &Rgb8, panel: usize, width: usize, x: usize, y: usize) -> [u8; 3] {
    pixel(picture, panel * (width + GAP) + x, HEADER + y)
}

#[test]
fn canvas_has_the_size_of_its_panels() {
    // Picture, then the panel it becomes.
    let cases = [
        ((320, 320), (320, 320)),
        ((1280, 640), (640, 320)),
        ((700, 1400), (320, 640)),
        ((300, 641), (300, 640)),
        ((640, 640), (640, 640)),
        ((128, 50), (128, 50)),
        ((100, 40), (200, 80)),
        ((1, 1), (128, 128)),
        ((4000, 20), (640, 3)),
        ((20, 4000), (3, 640)),
        ((1, 9000), (1, 640)),
    ];
    for ((w, h), (pw, ph)) in cases {
        let mask = DefectMask { width: w, height: h, data: vec![1; w * h] };
        for (mask, panels) in [(None, 2), (Some(&mask), 3)] {
            let shown = render(&grey(w, h), &flat(w, h, 2.0), mask, SCALE, &label(true));
            let width = (panels * (pw + GAP) - GAP).max(576);
            assert_eq!(
                (shown.width, shown.height),
                (width, HEADER + ph + FOOTER),
                "{w} x {h}, {panels} panels"
            );
            assert_eq!(shown.data.len(), shown.width * shown.height * 3);
            assert_eq!(panel_pixel(&shown, 0, pw, 0, 0), [100; 3], "{w} x {h}");
        }
    }
}

#[test]
fn overlay_is_invisible_at_the_low_end_and_brightest_at_the_high_end() {
    let at = |value: f32| {
        let shown = render(&grey(320, 320), &flat(40, 40, value), None, SCALE, &label(false));
        panel_pixel(&shown, 1, 320, 160, 160)
    };
    assert_eq!(at(1.0), [100; 3]);
    assert_eq!(at(-50.0), [100; 3]);
    assert_eq!(at(f32::NAN), [100; 3]);
    assert_eq!(at(f32::NEG_INFINITY), [100; 3]);
    assert_eq!(at(3.0), at(1e9));
    assert_eq!(at(3.0), at(f32::INFINITY));
    // 0.8 of the gradient's last colour (252, 255, 164) over 100.
    assert_eq!(at(3.0), [222, 224, 151]);
    let distance = |c: [u8; 3]| c.iter().map(|&v| i32::from(v).abs_diff(100)).sum::<u32>();
    let steps: Vec<u32> = [1.0, 1.02, 1.3].map(|v| distance(at(v))).to_vec();
    assert!(steps[0] == 0 && steps[0] < steps[1] && steps[1] < steps[2], "{steps:?}");
    let red = [1.1, 1.5, 2.0, 2.5, 3.0].map(|v| at(v)[0]);
    assert!(red.is_sorted() && red[0] < red[4], "{red:?}");
}

#[test]
fn a_scale_without_extent_does_not_divide_by_zero() {
    let cases = [
        (2.0, 2.0, 2.0, 0.0),
        (2.0, 2.0, 2.1, 1.0),
        (3.0, 1.0, 2.0, 0.0),
        (f32::NAN, 1.0, 2.0, 0.0),
        (0.0, f32::INFINITY, 2.0, 0.0),
        (0.0, 4.0, 1.0, 0.25),
        (-4.0, 4.0, f32::NAN, 0.0),
    ];
    for (low, high, score, expected) in cases {
        assert_eq!(ColourScale { low, high }.position(score), expected, "{score} in {low}..{high}");
    }
    for scale in
        [ColourScale { low: f32::NAN, high: f32::NAN }, ColourScale { low: f32::MIN, high: f32::MAX }]
    {
        render(&grey(64, 64), &flat(9, 9, f32::MAX), None, scale, &label(true));
    }
}

#[test]
fn a_peak_is_shown_where_it_is() {
    // Map cell (6, 1) of 8 x 4 is high; on a panel of 320 x 160 it is centred on (260, 60).
    let mut map = flat(8, 4, 1.0);
    map.values[8 + 6] = 3.0;
    let shown = render(&grey(320, 160), &map, None, SCALE, &label(true));
    let mut brightest = (0, (0, 0));
    for y in 0..160 {
        for x in 0..320 {
            let value = panel_pixel(&shown, 1, 320, x, y)[1]; // green: rises up to the very end
            brightest = brightest.max((value, (x, y)));
        }
    }
    let (_, (x, y)) = brightest;
    assert!(x.abs_diff(260) <= 1 && y.abs_diff(60) <= 1, "peak at {x}, {y}");
    // Bilinear: half-way to the next cell the score is half-way, and beyond the neighbour it is gone.
    let half = panel_pixel(&shown, 1, 320, 240, 59);
    let flat_half = render(&grey(320, 160), &flat(8, 4, 2.0), None, SCALE, &label(true));
    let expected = panel_pixel(&flat_half, 1, 320, 240, 59);
    assert!(half.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 8), "{half:?} not {expected:?}");
    assert_eq!(panel_pixel(&shown, 1, 320, 210, 60), [100; 3]);
}

#[test]
fn the_mask_is_tinted_inside_and_outlined_outside() {
    let mut mask = DefectMask { width: 1280, height: 1280, data: vec![0; 1280 * 1280] };
    // A block, and a scratch one pixel wide that a reduction by two must not lose.
    for y in 400..440 {
        for x in 600..680 {
            mask.data[y * 1280 + x] = 1;
        }
        mask.data[y * 1280 + 101] = 1;
    }
    let shown = render(&grey(1280, 1280), &flat(1, 1, 0.0), Some(&mask), SCALE, &label(true));
    let at = |x, y| panel_pixel(&shown, 2, 640, x, y);
    assert_eq!(at(320, 210), [70, 136, 147]); // 0.3 of (0, 220, 255) over 100
    assert_eq!(at(299, 210), [0, 220, 255]);
    assert_eq!(at(298, 210), [100; 3]);
    assert_eq!(at(50, 210), [70, 136, 147]);
    assert_eq!([at(49, 210), at(51, 210)], [[0, 220, 255]; 2]);
    // Twice the picture's size or half, the mask covers the same part of it.
    let small = DefectMask { width: 2, height: 2, data: vec![0, 1, 0, 0] };
    let shown = render(&grey(200, 200), &flat(1, 1, 0.0), Some(&small), SCALE, &label(true));
    assert_eq!(panel_pixel(&shown, 2, 200, 100, 99), [70, 136, 147]);
    assert_eq!(panel_pixel(&shown, 2, 200, 99, 99), [0, 220, 255]);
    assert_eq!(panel_pixel(&shown, 2, 200, 98, 50), [100; 3]);
}

#[test]
fn inconsistent_input_is_left_out_not_a_panic() {
    let bad_map = ScoreMap { width: 9, height: 9, values: vec![3.0; 5] };
    let bad_mask = DefectMask { width: usize::MAX, height: 2, data: vec![1; 5] };
    let shown = render(&grey(200, 200), &bad_map, Some(&bad_mask), SCALE, &label(true));
    for panel in 0..3 {
        assert_eq!(panel_pixel(&shown, panel, 200, 100, 100), [100; 3]);
    }
    for (width, height, length) in [(0, 0, 0), (0, 5, 0), (4, 4, 7), (usize::MAX, usize::MAX, 3)] {
        let picture = Rgb8 { width, height, data: vec![0; length] };
        let shown = render(&picture, &flat(0, 0, 0.0), None, SCALE, &label(true));
        assert_eq!((shown.width, shown.height), (576, HEADER + 128 + FOOTER));
    }
}

#[test]
fn the_header_shows_the_verdict_in_its_colour_and_long_names_clipped() {
    let count = |shown: &Rgb8, colour: [u8; 3]| shown.data.chunks(3).filter(|p| **p == colour).count();
    let (green, red) = ([80, 210, 110], [255, 90, 80]);
    let good = render(&grey(300, 300), &flat(1, 1, 0.0), None, SCALE, &label(false));
    let defect = render(&grey(300, 300), &flat(1, 1, 0.0), None, SCALE, &label(true));
    assert!(count(&good, green) > 100 && count(&good, red) == 0);
    assert!(count(&defect, red) > 100 && count(&defect, green) == 0);
    let mut long = label(true);
    long.name = "n".repeat(500);
    let clipped = render(&grey(300, 300), &flat(1, 1, 0.0), None, SCALE, &long);
    assert_eq!((clipped.width, clipped.height), (defect.width, defect.height));
    long.name = "n".repeat((606 - 2 * GAP) / 16 - 3) + "...";
    assert_eq!(clipped, render(&grey(300, 300), &flat(1, 1, 0.0), None, SCALE, &long));
}

#[test]
fn a_picture_is_written_whole_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/x.png");
    let shown = render(&grey(64, 48), &flat(5, 5, 2.2), None, SCALE, &label(true));
    for _ in 0..2 {
        write_png(&path, &shown).unwrap(); // the second time over the first
        let read = image::open(&path).unwrap().to_rgb8();
        assert_eq!((read.width() as usize, read.height() as usize), (shown.width, shown.height));
        assert_eq!(read.into_raw(), shown.data);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file is left");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }
}

#[test]
fn writing_errors_name_the_path_and_leave_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.png");
    std::fs::write(&path, "old").unwrap();
    let broken = Rgb8 { width: 3, height: 3, data: vec![0; 5] };
    let error = write_png(&path, &broken).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Caller);
    assert!(error.to_string().contains("x.png"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // A file where a folder should be.
    let error = write_png(&path.join("y.png"), &grey(2, 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("y.png"), "{error}");
}
