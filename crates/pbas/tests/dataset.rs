//! Listing folders: what is found, in which order, and every layout that must be refused or warned of.

use std::fs;
use std::path::{Path, PathBuf};

use pbas::dataset::{Label, TestSet, expand_inputs, good_pictures, test_set};
use pbas::{Error, ErrorKind};
use tempfile::TempDir;

/// A folder with these files (all empty: nothing here decodes) and, where a name ends in `/`, folders.
fn tree(names: &[&str]) -> TempDir {
    let root = TempDir::new().unwrap();
    for name in names {
        let path = root.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
    }
    root
}

/// Paths relative to `root`, with `/`.
fn relative(root: &Path, paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|p| p.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/")).collect()
}

fn good(root: &TempDir) -> Vec<String> {
    relative(root.path(), &good_pictures(root.path()).unwrap())
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, part: &str) {
    let e = result.expect_err(part);
    assert!(e.to_string().contains(part), "`{e}` does not say `{part}`");
    assert_eq!(e.kind(), kind, "{e}");
}

fn warned(set: &TestSet, parts: &[&str]) {
    for part in parts {
        assert!(set.warnings.iter().any(|w| w.contains(part)), "no `{part}` in {:#?}", set.warnings);
    }
    assert_eq!(set.warnings.len(), parts.len(), "{:#?}", set.warnings);
}

#[test]
fn train_good_alone_is_learnt_from() {
    let root = tree(&["train/good/b.png", "train/good/a.JPG", "train/bad/c.png", "test/good/d.png", "e.png"]);
    assert_eq!(good(&root), ["train/good/a.JPG", "train/good/b.png"]);
}

#[test]
fn plain_folder_is_listed_recursively_in_byte_order() {
    let root = tree(&[
        "b/x.png",
        "a.png",
        "b.png",
        "a/x.tiff",
        "C.png",
        "b-1.png",
        "ä.png",
        "notes.txt",
        ".hidden.png",
        ".git/x.png",
        "Thumbs.db",
        "__MACOSX/x.png",
        "a/10.webp",
        "a/9.webp",
    ]);
    // `-` < `.` < `/` < letters; capitals first; non-ASCII last.
    assert_eq!(
        good(&root),
        ["C.png", "a.png", "a/10.webp", "a/9.webp", "a/x.tiff", "b-1.png", "b.png", "b/x.png", "ä.png"]
    );
}

#[test]
fn folders_without_good_pictures_are_refused_with_a_hint() {
    let root =
        tree(&["empty/", "text/a.txt", "text/sub/b.csv", "file.png", "mv/train/good/", "mv/other.png"]);
    let at = |name: &str| good_pictures(&root.path().join(name));
    refused(at("missing"), ErrorKind::Io, "cannot open folder");
    refused(at("file.png"), ErrorKind::Caller, "expected a folder, found a file");
    refused(at("empty"), ErrorKind::Caller, "empty`: it is empty");
    refused(at("text"), ErrorKind::Caller, "text`: it holds 2 files of other kinds");
    refused(at("mv"), ErrorKind::Caller, "no good pictures in");
    for name in ["missing", "file.png", "empty", "text", "mv"] {
        let e = at(name).unwrap_err();
        assert!(e.to_string().contains(name), "{e}");
        assert_eq!(
            e.hint(),
            Some(
                "expected `<category>/train/good/*.{png,jpg,bmp,tif,webp}` or a plain folder of good pictures"
            )
        );
    }
}

#[test]
fn defects_are_not_learnt_from() {
    let root = tree(&["test/good/a.png", "test/scratch/b.png", "c.png"]);
    refused(good_pictures(root.path()), ErrorKind::Caller, "has a `test` folder but no `train/good`");
    // The test folder itself: `good` beside defects.
    refused(
        good_pictures(&root.path().join("test")),
        ErrorKind::Caller,
        "has pictures in `scratch` beside those in `good`",
    );
    // `good` alone, or beside folders without pictures, is a plain folder.
    let root = tree(&["good/a.png", "docs/readme.txt"]);
    assert_eq!(good(&root), ["good/a.png"]);
}

#[test]
fn one_name_in_two_subfolders_is_two_pictures() {
    let root = tree(&["cam1/0.png", "cam2/0.png"]);
    assert_eq!(good(&root), ["cam1/0.png", "cam2/0.png"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_once_and_loops_end() {
    use std::os::unix::fs::symlink;
    let root = tree(&["a/x.png", "b/y.png"]);
    symlink(root.path(), root.path().join("a/up")).unwrap();
    symlink(root.path().join("a"), root.path().join("b/across")).unwrap();
    symlink("self", root.path().join("self")).unwrap();
    symlink(root.path().join("gone.png"), root.path().join("dangling.png")).unwrap();
    // A dangling picture stays: its reader reports it.
    assert_eq!(good(&root), ["a/x.png", "b/y.png", "dangling.png"]);

    let outside = tree(&["z.png"]);
    symlink(outside.path(), root.path().join("c")).unwrap();
    assert_eq!(good(&root), ["a/x.png", "b/y.png", "c/z.png", "dangling.png"]);
}

#[cfg(unix)]
#[test]
fn unreadable_folders_are_an_error() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let root = tree(&["good.png", "locked/x.png"]);
    // A link to itself can be opened by nobody, not even by root.
    symlink("self", root.path().join("self")).unwrap();
    refused(good_pictures(&root.path().join("self")), ErrorKind::Io, "cannot open folder");

    let locked = root.path().join("locked");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let result = good_pictures(root.path());
    let as_root = fs::read_dir(&locked).is_ok();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    match as_root {
        true => assert_eq!(result.unwrap().len(), 2, "root reads it all the same"),
        false => refused(result, ErrorKind::Io, "locked"),
    }
}

#[test]
fn mvtec_test_set_with_masks() {
    let root = tree(&[
        "train/good/0.png",
        "test/good/000.png",
        "test/scratch/000.png",
        "test/scratch/001.jpg",
        "test/scratch/sub/001.png",
        "test/dent/000.png",
        "ground_truth/scratch/000_mask.png",
        "ground_truth/scratch/001.bmp",
        "ground_truth/scratch/sub/001_mask.png",
        "ground_truth/dent/000_mask.tif",
        "ground_truth/good/000_mask.png",
    ]);
    let set = test_set(root.path()).unwrap();
    warned(&set, &[]);
    let found: Vec<_> = set
        .samples
        .iter()
        .map(|s| (s.name.as_str(), s.label, s.defect_type.as_str(), s.mask.as_slice()))
        .map(|(name, label, kind, mask)| (name, label, kind, relative(root.path(), mask).pop()))
        .collect();
    let mask = |name: &str| Some(format!("ground_truth/{name}"));
    assert_eq!(
        found,
        [
            ("test/dent/000.png", Label::Defective, "dent", mask("dent/000_mask.tif")),
            ("test/good/000.png", Label::Good, "good", None),
            ("test/scratch/000.png", Label::Defective, "scratch", mask("scratch/000_mask.png")),
            ("test/scratch/001.jpg", Label::Defective, "scratch", mask("scratch/001.bmp")),
            ("test/scratch/sub/001.png", Label::Defective, "scratch", mask("scratch/sub/001_mask.png")),
        ]
    );
    let paths: Vec<PathBuf> = set.samples.iter().map(|s| s.path.clone()).collect();
    assert_eq!(relative(root.path(), &paths), set.samples.iter().map(|s| s.name.clone()).collect::<Vec<_>>());
    assert_eq!((set.count(Label::Good), set.count(Label::Defective)), (1, 4));

    // The `test` folder itself finds the same masks.
    let inner = test_set(&root.path().join("test")).unwrap();
    warned(&inner, &[]);
    assert_eq!(inner.samples.len(), 5);
    for (a, b) in set.samples.iter().zip(&inner.samples) {
        assert_eq!(
            (&a.path, a.name.strip_prefix("test/").unwrap(), &a.mask),
            (&b.path, b.name.as_str(), &b.mask)
        );
    }
}

#[test]
fn plain_pair_is_a_test_set() {
    let root = tree(&["Good/a.png", "broken/b.png", "bent/c.png", "ground_truth/bent/c_mask.png"]);
    let set = test_set(root.path()).unwrap();
    let found: Vec<_> =
        set.samples.iter().map(|s| (s.name.as_str(), s.defect_type.as_str(), s.mask.is_some())).collect();
    assert_eq!(
        found,
        [("Good/a.png", "good", false), ("bent/c.png", "bent", true), ("broken/b.png", "broken", false)]
    );
    warned(&set, &["`broken/b.png` is defective and has no mask"]);
}

#[test]
fn odd_test_sets_are_warned_of() {
    let cases: [(&[&str], &[&str]); 7] = [
        (&["test/good/0.png", "test/a/0.png"], &[]), // no masks at all: image metrics alone
        (
            &["test/good/0.png", "test/a/0.png", "test/a/1.png", "ground_truth/a/0_mask.png"],
            &["`test/a/1.png` is defective and has no mask"],
        ),
        (
            &[
                "test/good/0.png",
                "test/a/0.png",
                "ground_truth/a/0_mask.png",
                "ground_truth/a/9_mask.png",
                "ground_truth/b/0_mask.png",
            ],
            &["9_mask.png` belongs to no picture", "0_mask.png` belongs to no picture"],
        ),
        (
            &["test/good/0.png", "test/a/0.png", "ground_truth/a/0_mask.png", "ground_truth/a/0.png"],
            &["0.png` belongs to no picture"],
        ),
        (&["test/a/0.png"], &["no good pictures"]),
        (&["test/good/0.png", "test/loose.png"], &["no defective pictures", "1 picture(s) directly in"]),
        (
            &["test/good/0.png", "test/a/0.png", "test/a/0.jpg", "ground_truth/a/0_mask.png"],
            &["`test/a/0.jpg` and `test/a/0.png` differ in extension alone"],
        ),
    ];
    for (names, parts) in cases {
        let root = tree(names);
        let set = test_set(root.path()).unwrap();
        warned(&set, parts);
        let typed = names.iter().filter(|n| n.starts_with("test/") && !n.contains("loose")).count();
        assert_eq!(set.samples.len(), typed, "{names:?}");
    }
}

#[test]
fn what_is_no_test_set_is_refused() {
    let root = tree(&[
        "cameras/one/a.png",
        "cameras/two/b.png",
        "trained/train/good/a.png",
        "trained/good/x.png",
        "bare/test/",
        "texts/test/good/a.txt",
        "texts/test/bad/b.txt",
        "file.png",
    ]);
    let at = |name: &str| test_set(&root.path().join(name));
    refused(at("missing"), ErrorKind::Io, "cannot open folder");
    refused(at("file.png"), ErrorKind::Caller, "expected a folder, found a file");
    refused(at("cameras"), ErrorKind::Caller, "no test set in");
    refused(at("trained"), ErrorKind::Caller, "no test set in");
    refused(at("bare"), ErrorKind::Caller, "it is empty");
    refused(at("texts"), ErrorKind::Caller, "it holds 2 files of other kinds");
    for name in ["missing", "file.png", "cameras", "trained", "bare", "texts"] {
        assert!(at(name).unwrap_err().hint().unwrap().contains("ground_truth"), "{name}");
    }
}

#[test]
fn inputs_keep_their_order_and_folders_are_expanded() {
    let root = tree(&["z.png", "d/b.png", "d/a.png", "d/sub/c.jpg", "d/notes.txt", "texts/a.txt", "empty/"]);
    let at = |name: &str| root.path().join(name);
    let inputs = expand_inputs(&[at("z.png"), at("d"), at("missing.png"), at("d/notes.txt")]).unwrap();
    assert_eq!(
        relative(root.path(), &inputs),
        ["z.png", "d/a.png", "d/b.png", "d/sub/c.jpg", "missing.png", "d/notes.txt"]
    );
    refused(
        expand_inputs(&[at("z.png"), at("texts")]),
        ErrorKind::Caller,
        "texts`: it holds 1 file of another kind",
    );
    refused(expand_inputs(&[at("empty")]), ErrorKind::Caller, "empty`: it is empty");
    assert!(expand_inputs(&[]).unwrap().is_empty());
}
