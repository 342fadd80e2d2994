//! The demo set: same bytes for the same seed, masks that say where the defect is, the layout on disk.

use pbas::ErrorKind;
use pbas::demo::{DemoKind, MARKER, render, write_set};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a folder with its content, sorted by path.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn count(root: &Path, folder: &str) -> usize {
    fs::read_dir(root.join(folder)).unwrap().count()
}

#[test]
fn the_same_seed_gives_the_same_picture_and_another_seed_another() {
    let all = [DemoKind::Good].into_iter().chain(DemoKind::DEFECTS);
    for kind in all {
        let first = render(kind, 17);
        assert_eq!(first, render(kind, 17), "{kind:?}");
        let other = render(kind, 18);
        let differing = first.picture.data.iter().zip(&other.picture.data).filter(|(a, b)| a != b).count();
        assert!(differing > first.picture.data.len() / 2, "{kind:?}: {differing} bytes differ");
        assert_eq!(first.picture.data.len(), 320 * 320 * 3);
    }
}

/// Pins the bytes: a platform (or a change) that renders anything else is found here.
#[test]
fn the_bytes_are_the_same_on_every_platform() {
    let mut digest = Sha256::new();
    for (kind, seed) in [DemoKind::Good].into_iter().chain(DemoKind::DEFECTS).zip(1..) {
        let shown = render(kind, seed);
        digest.update(&shown.picture.data);
        digest.update(shown.mask.map_or(Vec::new(), |m| m.data));
    }
    let digest: String = digest.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, "4cb78b20677ca89f");
}

#[test]
fn the_mask_holds_what_the_defect_changed() {
    const SIDE: usize = 320;
    for kind in DemoKind::DEFECTS {
        for seed in 0..8 {
            let good = render(DemoKind::Good, seed);
            assert!(good.mask.is_none());
            let spoiled = render(kind, seed);
            let mask = spoiled.mask.expect("a defect has a mask");
            assert_eq!((mask.width, mask.height, mask.data.len()), (SIDE, SIDE, SIDE * SIDE));
            assert!(mask.data.iter().all(|v| *v <= 1));
            let change = |i: usize| {
                let channels = 3 * i..3 * i + 3;
                let pair = good.picture.data[channels.clone()].iter().zip(&spoiled.picture.data[channels]);
                pair.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
            };
            let inside: Vec<usize> = (0..SIDE * SIDE).filter(|&i| mask.data[i] == 1).collect();
            let name = format!("{kind:?}, seed {seed}");
            // Neither lost nor all of the ring (about 34,000 pixels).
            assert!((30..4000).contains(&inside.len()), "{name}: {} pixels", inside.len());
            let mean = inside.iter().map(|&i| f64::from(change(i))).sum::<f64>() / inside.len() as f64;
            assert!((4.0..60.0).contains(&mean), "{name}: mean change {mean}");
            // The mask is on the part: within the outermost place that pose and scale allow.
            for &i in &inside {
                let (x, y) = ((i % SIDE) as f64 - 159.5, (i / SIDE) as f64 - 159.5);
                assert!(x.hypot(y) < 119.0 * 1.02 + 17.0 + 3.0, "{name}: mask at {x}, {y} from the centre");
            }
            // Outside nothing changes by the material 4 levels (one more for rounding); far away nothing at all.
            let near = |i: usize, reach: usize| {
                let (x, y) = (i % SIDE, i / SIDE);
                inside.iter().any(|&m| (m % SIDE).abs_diff(x) <= reach && (m / SIDE).abs_diff(y) <= reach)
            };
            for i in 0..SIDE * SIDE {
                let changed = change(i);
                assert!(mask.data[i] == 1 || changed <= 5, "{name}: {changed} levels outside the mask");
                assert!(changed == 0 || near(i, 20), "{name}: change far from the mask");
            }
        }
    }
}

#[test]
fn a_set_has_the_mvtec_layout_and_is_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("one/set"), dir.path().join("two"));
    let mut calls = Vec::new();
    let set = write_set(&first, 5, &mut |done, total| calls.push((done, total))).unwrap();
    assert_eq!((set.train_good, set.test_good, set.test_defective, set.seed), (60, 16, 24, 5));
    assert_eq!(set.root, first);
    assert_eq!((calls[0], calls[calls.len() - 1]), ((0, 100), (100, 100)));
    assert!(calls.is_sorted());

    assert_eq!((count(&first, "train"), count(&first, "train/good")), (1, 60));
    assert_eq!((count(&first, "test"), count(&first, "test/good")), (5, 16));
    assert_eq!(count(&first, "ground_truth"), 4);
    for kind in ["scratch", "dent", "stain", "missing_chamfer"] {
        assert_eq!(count(&first, &format!("test/{kind}")), 6);
        assert_eq!(count(&first, &format!("ground_truth/{kind}")), 6);
        for i in 0..6 {
            let picture = image::open(first.join(format!("test/{kind}/{i:03}.png"))).unwrap();
            assert_eq!(picture.color(), image::ColorType::Rgb8);
            let mask = image::open(first.join(format!("ground_truth/{kind}/{i:03}_mask.png"))).unwrap();
            assert_eq!((mask.width(), mask.height()), (picture.width(), picture.height()));
            let mask = mask.into_luma8().into_raw();
            assert!(mask.contains(&255) && mask.iter().all(|v| [0, 255].contains(v)));
        }
    }
    let written = files(&first);
    assert_eq!(written.len(), 100 + 24 + 1);
    let pictures: std::collections::HashSet<&Vec<u8>> = written.iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(pictures.len(), written.len(), "no two files are alike");

    write_set(&second, 5, &mut |_, _| {}).unwrap();
    assert!(written == files(&second), "the same seed gave other files");
    // Its own set is written over, with another seed; a file of the user's stays.
    fs::write(second.join("notes.txt"), "mine").unwrap();
    write_set(&second, 6, &mut |_, _| {}).unwrap();
    let again = files(&second);
    assert_eq!(again.len(), written.len() + 1);
    let same = written.iter().filter(|file| again.contains(file)).count();
    assert_eq!(same, 0, "{same} files are the same for another seed");
}

#[test]
fn a_folder_with_other_files_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("train/good")).unwrap();
    fs::write(dir.path().join("train/good/000.png"), "mine").unwrap();
    let before = files(dir.path());
    let error = write_set(dir.path(), 0, &mut |_, _| panic!("nothing is written")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Caller);
    assert!(error.to_string().contains("expected an empty folder"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(files(dir.path()), before);
    assert!(!dir.path().join(MARKER).exists());

    let file = dir.path().join("train/good/000.png");
    let error = write_set(&file, 0, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("000.png"), "{error}");
}
