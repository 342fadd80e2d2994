//! Data sets as they really are: a small tree of each layout, with its irregularities. Pictures are empty files wherever nothing may decode them.

use std::fs;
use std::path::Path;

use pbas::dataset::{Category, DataSet, Label, Layout, open};
use pbas::image::{DecodeOptions, read_areas, read_mask};
use pbas::train::observer::Silent;

/// A folder with these files, empty unless written to later.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    files.iter().for_each(|f| write(root.path(), f, ""));
    root
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[track_caller]
fn opened(root: &Path, layout: Layout, categories: &[&str]) -> DataSet {
    let set = open(root).unwrap();
    assert_eq!(set.layout, layout);
    assert!(set.broken.is_empty(), "{:?}", set.broken);
    let names: Vec<&str> = set.categories.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, categories);
    set
}

/// Test pictures as (name, type, mask below `root`).
fn samples(root: &Path, category: &Category) -> Vec<(String, String, Option<String>)> {
    let below = |p: &Path| p.strip_prefix(root).unwrap().display().to_string().replace('\\', "/");
    let of = |s: &pbas::dataset::Sample| {
        assert_eq!(s.label == Label::Good, s.defect_type == "good");
        (s.name.clone(), s.defect_type.clone(), s.mask.as_deref().map(below))
    };
    category.test.samples.iter().map(of).collect()
}

fn row(name: &str, kind: &str, mask: Option<&str>) -> (String, String, Option<String>) {
    (name.into(), kind.into(), mask.map(String::from))
}

#[track_caller]
fn warned(category: &Category, part: &str) {
    assert!(category.test.warnings.iter().any(|w| w.contains(part)), "{part}: {:?}", category.test.warnings);
}

#[track_caller]
fn refused(path: &Path, parts: &[&str]) {
    let e = open(path).unwrap_err();
    let text = format!("{} {}", pbas::error::chain(&e), e.hint().unwrap_or_default());
    parts.iter().for_each(|p| assert!(text.contains(p), "expected `{p}` in `{text}`"));
}

#[test]
fn mvtec_and_mpdd() {
    let root = tree(&[
        "bracket/train/good/0.png",
        "bracket/test/good/0.png",
        "bracket/test/hole/0.png",
        "bracket/ground_truth/hole/0_mask.png",
        "tubes/train/good/0.png",
        "tubes/test/hole/0.png",
        "tubes/license.txt",
        "readme.txt",
        "empty/other/0.png",
    ]);
    let set = opened(root.path(), Layout::Mvtec, &["bracket", "tubes"]);
    assert_eq!(
        samples(root.path(), &set.categories[0]),
        [
            row("test/good/0.png", "good", None),
            row("test/hole/0.png", "hole", Some("bracket/ground_truth/hole/0_mask.png"))
        ]
    );
    warned(&set.categories[1], "no good pictures");
    // One category by itself, and one that is broken beside the others.
    opened(&root.path().join("bracket"), Layout::Mvtec, &["bracket"]);
    write(root.path(), "zipper/train/good/notes.txt", "");
    write(root.path(), "zipper/test/good/0.png", "");
    let set = open(root.path()).unwrap();
    assert_eq!((set.categories.len(), set.broken[0].0.as_str()), (2, "zipper"));
    refused(&root.path().join("empty"), &["no data set of a known layout", "manifest"]);
}

#[test]
fn mvtec_ad_2() {
    let root = tree(&[
        "can/train/good/000_regular.png",
        "can/validation/good/000.png",
        "can/validation/good/001.png",
        "can/test_public/good/000_regular.png",
        "can/test_public/bad/000_overexposed.png",
        "can/test_public/ground_truth/bad/000_overexposed_mask.png",
        "can/test_private/000.png",
        "can/test_private_mixed/000.png",
    ]);
    let set = opened(root.path(), Layout::MvtecAd2, &["can"]);
    let can = &set.categories[0];
    assert_eq!((can.good.len(), can.validation.len(), can.unlabelled), (1, 2, 2));
    assert_eq!(
        samples(root.path(), can),
        [
            row(
                "test_public/bad/000_overexposed.png",
                "bad",
                Some("can/test_public/ground_truth/bad/000_overexposed_mask.png")
            ),
            row("test_public/good/000_regular.png", "good", None),
        ]
    );
}

#[test]
fn mvtec_loco_has_a_folder_of_masks_a_picture() {
    let root = tree(&[
        "pushpins/train/good/000.png",
        "pushpins/validation/good/000.png",
        "pushpins/test/good/000.png",
        "pushpins/test/logical_anomalies/000.png",
        "pushpins/test/structural_anomalies/0001.png",
    ]);
    let grey = |name: &str, values: [u8; 4]| {
        let path = root.path().join("pushpins/ground_truth").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::save_buffer(path, &values, 4, 1, image::ColorType::L8).unwrap();
    };
    grey("logical_anomalies/000/000.png", [251, 251, 0, 0]);
    grey("logical_anomalies/000/001.png", [0, 0, 7, 0]);
    grey("structural_anomalies/0001/000.png", [0, 1, 0, 0]);
    write(
        root.path(),
        "pushpins/defects_config.json",
        r#"[{"defect_name": "missing", "pixel_value": 251, "saturation_threshold": 1, "relative_saturation": false},
            {"defect_name": "scratch", "pixel_value": 7, "saturation_threshold": 1.0, "relative_saturation": true}]"#,
    );
    let set = opened(root.path(), Layout::MvtecLoco, &["pushpins"]);
    let pins = &set.categories[0];
    assert!(pins.test.warnings.is_empty(), "{:?}", pins.test.warnings);
    assert_eq!((pins.validation.len(), pins.test.samples.len()), (1, 3));
    let of_type = |kind: &str| {
        let sample = pins.test.samples.iter().find(|s| s.defect_type == kind).unwrap();
        sample.mask.as_deref().unwrap()
    };
    let decode = DecodeOptions::default();
    let mask = read_mask(of_type("logical_anomalies"), &decode).unwrap();
    assert_eq!(mask.data, [1, 1, 1, 0], "the masks of a picture together");
    // Each mask and grey value is an area, of which so much is enough.
    let saturation = pins.test.saturation.as_ref().unwrap();
    let areas = |kind: &str| {
        read_areas(of_type(kind), &decode, |value, pixels| saturation.enough(value, pixels))
            .map(|areas| areas.into_iter().map(|a| (a.mask.data, a.enough)).collect::<Vec<_>>())
    };
    assert_eq!(
        areas("logical_anomalies").unwrap(),
        [(vec![1, 1, 0, 0], 0.5), (vec![0, 0, 1, 0], 1.0)],
        "one pixel of two is enough; all of one"
    );
    let e = areas("structural_anomalies").unwrap_err().to_string();
    assert!(e.contains("0001") && e.contains("the list of defects has, found 1"), "{e}");
    // The same through a test set that is opened by itself.
    let alone = pbas::dataset::test_set(&root.path().join("pushpins")).unwrap();
    assert_eq!(alone.saturation, pins.test.saturation);
    for bad in [r#"[{"defect_name": "missing", "pixel_value": 0}]"#, "{}"] {
        write(root.path(), "pushpins/defects_config.json", bad);
        let broken = pbas::error::chain(&open(root.path()).unwrap().broken[0].1);
        assert!(broken.contains("defects_config.json") && broken.contains("expected a list"), "{broken}");
    }
}

#[test]
fn btad_matches_masks_by_stem() {
    let root = tree(&[
        "01/train/ok/0000.bmp",
        "01/test/ok/0000.bmp",
        "01/test/ko/0000.bmp",
        "01/ground_truth/ko/0000.png",
        "03/train/ok/0000.bmp",
        "03/test/ok/0000.bmp",
        "03/test/ko/0001.bmp",
        "03/test/ko/0002.bmp",
        "03/ground_truth/ko/0001.bmp",
    ]);
    let set = opened(root.path(), Layout::Btad, &["01", "03"]);
    assert_eq!(
        samples(root.path(), &set.categories[0]),
        [
            row("test/ko/0000.bmp", "ko", Some("01/ground_truth/ko/0000.png")),
            row("test/ok/0000.bmp", "good", None)
        ]
    );
    warned(&set.categories[1], "`test/ko/0002.bmp` is defective and has no mask");
}

const VISA_HEADER: &str = "object,split,label,image,mask\n";

#[test]
fn visa_as_published() {
    let root = tree(&[
        "candle/Data/Images/Normal/0000.JPG",
        "candle/Data/Images/Normal/0001.JPG",
        "candle/Data/Images/Anomaly/000.JPG",
        "candle/Data/Images/Anomaly/001.JPG",
        "candle/Data/Masks/Anomaly/000.png",
        "pcb1/Data/Images/Normal/0000.JPG",
    ]);
    refused(root.path(), &["VisA without `split_csv/1cls.csv`"]);
    // A mark of the byte order, Windows' paths, spaces, pictures and masks that are not there.
    let rows = "candle,train,normal,candle/Data/Images/Normal/0000.JPG,\r\n\
                candle,test,normal, candle\\Data\\Images\\Normal\\0001.JPG,\r\n\
                candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\r\n\
                candle,test,anomaly,candle/Data/Images/Anomaly/001.JPG,candle/Data/Masks/Anomaly/001.png\r\n\
                candle,test,anomaly,candle/Data/Images/Anomaly/999.JPG,candle/Data/Masks/Anomaly/999.png\r\n\
                pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,\r\n";
    write(root.path(), "split_csv/1cls.csv", &format!("\u{feff}{VISA_HEADER}{rows}"));
    let set = open(root.path()).unwrap();
    assert_eq!(set.layout, Layout::Visa);
    let candle = &set.categories[0];
    assert_eq!((candle.name.as_str(), candle.good.len()), ("candle", 1));
    assert_eq!(
        samples(root.path(), candle),
        [
            row("Data/Images/Anomaly/000.JPG", "anomaly", Some("candle/Data/Masks/Anomaly/000.png")),
            row("Data/Images/Anomaly/001.JPG", "anomaly", None),
            row("Data/Images/Normal/0001.JPG", "good", None),
        ]
    );
    warned(candle, "1 picture is listed");
    warned(candle, "`Data/Images/Anomaly/999.JPG`");
    warned(candle, "masks listed");
    assert!(set.broken[0].0 == "pcb1" && set.broken[0].1.to_string().contains("no test pictures of `pcb1`"));

    write(root.path(), "split_csv/1cls.csv", "object,split,image,mask\na,b,c,d\n");
    refused(
        root.path(),
        &[
            "expected the columns object, split, label, image, mask",
            "`label` is missing",
            "found object, split, image",
        ],
    );
    write(root.path(), "split_csv/1cls.csv", &format!("{VISA_HEADER}candle,train,normal,x.JPG\n"));
    refused(root.path(), &["line 2: expected 5 values, found 4"]);
    write(root.path(), "split_csv/1cls.csv", &format!("{VISA_HEADER}candle,train,fine,x.JPG,\n"));
    refused(root.path(), &["line 2: label: expected normal or anomaly, found `fine`"]);
    write(root.path(), "split_csv/1cls.csv", VISA_HEADER);
    refused(root.path(), &["expected at least one picture"]);
}

#[test]
fn a_visa_sized_tree_is_listed_whole_and_no_picture_is_opened() {
    const OBJECTS: usize = 12;
    const PICTURES: usize = 10_821;
    let root = tempfile::tempdir().unwrap();
    let mut csv = VISA_HEADER.to_owned();
    for i in 0..PICTURES {
        let (object, n) = (format!("object{:02}", i % OBJECTS), i / OBJECTS);
        let (split, label, folder) = match n % 10 {
            9 => ("test", "anomaly", "Anomaly"),
            8 => ("test", "normal", "Normal"),
            _ => ("train", "normal", "Normal"),
        };
        let image = format!("{object}/Data/Images/{folder}/{n:04}.JPG");
        if n == 8 || n == 9 {
            fs::create_dir_all(root.path().join(&image).parent().unwrap()).unwrap();
            fs::create_dir_all(root.path().join(format!("{object}/Data/Masks/Anomaly"))).unwrap();
        }
        csv.push_str(&format!("{object},{split},{label},{image},"));
        if label == "anomaly" {
            csv.push_str(&format!("{object}/Data/Masks/Anomaly/{n:04}.png"));
        }
        csv.push('\n');
    }
    for line in csv.lines().skip(1) {
        for file in line.split(',').skip(3).filter(|f| !f.is_empty()) {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap();
        }
    }
    write(root.path(), "split_csv/1cls.csv", &csv);
    // Every file is empty: whoever decoded one would fail. How long it takes: `cargo bench -p pbas --bench dataset`.
    let set = open(root.path()).unwrap();
    assert_eq!(set.categories.len(), OBJECTS);
    let found: usize = set.categories.iter().map(|c| c.good.len() + c.test.samples.len()).sum();
    assert_eq!(found, PICTURES);
    assert!(set.categories.iter().all(|c| c.test.warnings.is_empty()));
}

#[test]
fn real_iad_has_json_splits_and_several_views() {
    let root = tree(&[
        "realiad_256/audiojack/OK/S0001/audiojack_0001_OK_C1_1.jpg",
        "realiad_256/audiojack/OK/S0002/audiojack_0002_OK_C1_1.jpg",
        "realiad_256/audiojack/OK/S0002/audiojack_0002_OK_C2_1.jpg",
        "realiad_256/audiojack/NG/BX/S0003/audiojack_0003_NG_BX_C1_1.jpg",
        "realiad_256/audiojack/NG/BX/S0003/audiojack_0003_NG_BX_C1_1.png",
    ]);
    let picture = |class: &str, path: &str, mask: &str| {
        format!(
            r#"{{"category": "audiojack", "anomaly_class": "{class}", "image_path": "{path}", "mask_path": {mask}}}"#
        )
    };
    let json = format!(
        r#"{{"meta": {{"normal_class": "OK", "prefix": "audiojack/"}}, "train": [{}], "test": [{}, {}, {}]}}"#,
        picture("OK", "OK/S0001/audiojack_0001_OK_C1_1.jpg", "null"),
        picture("OK", "OK/S0002/audiojack_0002_OK_C1_1.jpg", "null"),
        picture("OK", "OK/S0002/audiojack_0002_OK_C2_1.jpg", "null"),
        picture(
            "BX",
            "NG/BX/S0003/audiojack_0003_NG_BX_C1_1.jpg",
            "\"NG/BX/S0003/audiojack_0003_NG_BX_C1_1.png\""
        ),
    );
    write(root.path(), "realiad_jsons/audiojack.json", &json);
    let set = opened(root.path(), Layout::RealIad, &["audiojack"]);
    assert_eq!(set.categories[0].good.len(), 1);
    let found = samples(root.path(), &set.categories[0]);
    assert_eq!(found.len(), 3);
    assert_eq!((found[0].1.as_str(), found[1].1.as_str()), ("BX", "good"));
    assert!(found[0].2.as_deref().unwrap().ends_with("BX_C1_1.png"));
    write(root.path(), "realiad_jsons/audiojack.json", "[1]");
    refused(root.path(), &["expected a split of Real-IAD"]);
}

#[test]
fn kolektor_sdd2_says_in_masks_alone_what_is_defective() {
    let root =
        tree(&["train/10000.png", "train/10001.png", "test/20000.png", "test/20001.png", "test/20002.png"]);
    let mask = |name: &str, value: u8| {
        image::save_buffer(root.path().join(name), &[0, value], 2, 1, image::ColorType::L8).unwrap();
    };
    for (name, value) in [("train/10000", 0), ("train/10001", 255), ("test/20000", 0), ("test/20001", 255)] {
        mask(&format!("{name}_GT.png"), value);
    }
    let set = open(root.path()).unwrap();
    assert_eq!(set.layout, Layout::KolektorSdd2);
    assert!(set.notes[0].contains("`20002.png`"), "{:?}", set.notes);
    let category = &set.categories[0];
    assert_eq!(category.good.len(), 1, "defective pictures are not learnt from");
    assert_eq!(
        samples(root.path(), category),
        [row("test/20000.png", "good", None), row("test/20001.png", "defect", Some("test/20001_GT.png"))]
    );
    warned(category, "1 defective picture is for training: left out");
}

#[test]
fn good_and_bad_folders_are_split() {
    let root = tree(&["good/0.png", "good/1.png", "good/2.png", "good/3.png", "bad/0.png", "bad/notes.txt"]);
    let set = open(root.path()).unwrap();
    assert_eq!(set.layout, Layout::Pair);
    let category = &set.categories[0];
    assert_eq!(category.good.len(), 3);
    assert_eq!(
        samples(root.path(), category),
        [row("bad/0.png", "bad", None), row("good/3.png", "good", None)]
    );
    assert!(set.notes[0].contains("3 pictures"));
    fs::remove_file(root.path().join("good/3.png")).unwrap();
    refused(root.path(), &["expected at least 4 good pictures, found 3"]);
}

#[test]
fn manifests() {
    let root = tree(&["a/1.png", "a/2.png", "b/3.png", "b/3_mask.png"]);
    let csv = "\u{feff}Path,split,label,mask\r\na\\1.png,train,good,\r\na\\2.png,test,0,\r\nb\\3.png,test,scratch,b\\3_mask.png\r\n";
    write(root.path(), "parts.csv", csv);
    let jsonl = r#"{"path": "a/1.png", "split": "train", "label": "good", "category": "bolts"}
{"path": "a/2.png", "split": "test", "label": 0, "mask": null, "category": "bolts"}

{"path": "b/3.png", "split": "test", "label": "scratch", "mask": "b/3_mask.png", "category": "bolts"}
"#;
    write(root.path(), "parts.jsonl", jsonl);
    for (file, name) in [("parts.csv", "parts"), ("parts.jsonl", "bolts")] {
        let set = opened(&root.path().join(file), Layout::Manifest, &[name]);
        assert_eq!(set.categories[0].good, [root.path().join("a/1.png")], "{file}");
        assert_eq!(
            samples(root.path(), &set.categories[0]),
            [row("a/2.png", "good", None), row("b/3.png", "scratch", Some("b/3_mask.png"))],
            "{file}"
        );
    }
    for (name, text, part) in [
        ("x.csv", "path,label\n", "`split` is missing"),
        (
            "x.csv",
            "path,split,label\na/1.png,validation,good\n",
            "line 2: split: expected train or test, found `validation`",
        ),
        ("x.csv", "path,split,label\na/9.png,train,good\n", "none of the 1 pictures listed"),
        ("x.jsonl", "{\"path\": \"a/1.png\"}\nnothing\n", "line 2: expected a JSON object"),
        ("x.txt", "a", "expected a folder, or a manifest"),
    ] {
        write(root.path(), name, text);
        match open(&root.path().join(name)) {
            Ok(set) => assert!(pbas::error::chain(&set.broken[0].1).contains(part), "{:?}", set.broken),
            Err(_) => refused(&root.path().join(name), &[part]),
        }
    }
}

#[test]
fn inspection_reads_headers_and_names_what_is_odd() {
    let root = tree(&["part/test/good/broken.png"]);
    let grey = |name: &str, side: u32| {
        let path = root.path().join("part").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::save_buffer(path, &vec![0; (side * side) as usize], side, side, image::ColorType::L8).unwrap();
    };
    [
        ("train/good/0.png", 8),
        ("train/good/1.png", 8),
        ("test/good/0.png", 8),
        ("test/dent/0.png", 8),
        ("ground_truth/dent/0.png", 6),
    ]
    .iter()
    .for_each(|(name, side)| grey(name, *side));
    let found = open(root.path()).unwrap().inspect(&Silent).unwrap();
    assert_eq!(found.layout, "MVTec AD");
    let part = &found.categories[0];
    assert_eq!((part.train_good, part.test_good, part.test_defective, part.masks), (2, 2, 1, 1));
    assert_eq!(part.sizes.iter().map(|(s, n)| (s.as_str(), *n)).collect::<Vec<_>>(), [("8 x 8", 4)]);
    let odd = part.oddities.join("\n");
    assert!(odd.contains("not readable") && odd.contains("broken.png"), "{odd}");
    assert!(odd.contains("masks of another size") && odd.contains("dent"), "{odd}");
}
