//! Runs the built program on tiny sets; every run is checked for panics.
#![allow(dead_code)] // Each test binary uses a part.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use pbas::demo::{DemoKind, render};
use serde_json::Value;

/// Settings with which a training takes a second or two.
pub const TINY: [&str; 10] =
    ["--size", "64", "--steps", "5", "--folds", "2", "--batch-size", "100", "--hidden", "16"];
/// Good pictures in [`set`].
pub const TRAIN_GOOD: usize = 12;

/// What a run left.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        let run =
            Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!run.stderr.contains("panicked"), "{run:#?}");
        run
    }

    /// Ended with this code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "{self:#?}");
        self
    }

    /// Stderr has all of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "expected `{part}` in {self:#?}");
        }
        self
    }

    /// Refused before any work: no stage began, nothing on stdout.
    #[track_caller]
    pub fn refused(self, parts: &[&str]) -> Self {
        let run = self.code(2).says(parts).says(&["error: "]);
        assert!(!run.stderr.contains("features:") && !run.stderr.contains("evaluating:"), "{run:#?}");
        assert_eq!(run.stdout, "");
        run
    }

    /// Every line of stdout as JSON; fails on a line that is none.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l:?} in {self:#?}")))
            .collect()
    }
}

/// The program with arguments, not yet run.
pub fn command<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbas"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the program.
pub fn pbas<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Run {
    Run::of(command(args).output().expect("the program starts"))
}

/// `pbas train DIR -o OUT` with [`TINY`] settings and more.
pub fn train(dir: &Path, out: &Path, more: &[&str]) -> Run {
    let mut args =
        vec!["train".to_owned(), dir.display().to_string(), "-o".into(), out.display().to_string()];
    args.extend(TINY.iter().chain(more).map(|s| (*s).to_owned()));
    pbas(&args)
}

/// A new folder that is removed with the guard.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

/// Folder of what the tests of one process share. It outlives the process; old ones are removed by later ones.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        const PREFIX: &str = "shared-";
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for entry in fs::read_dir(base).expect("the folder for temporary files").flatten() {
            let old = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if entry.file_name().to_string_lossy().starts_with(PREFIX)
                && old.is_some_and(|age| age > Duration::from_secs(3600))
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        tempfile::Builder::new().prefix(PREFIX).tempdir_in(base).expect("a temporary folder").keep()
    })
}

/// Options of a benchmark in the published protocol, small, with its baseline.
pub fn paper(epochs: &str) -> Vec<&str> {
    let small = ["--size", "64", "--hidden", "16", "--embed-dim", "32", "--epochs", epochs];
    [&["--protocol", "paper", "--baseline", "patchcore"], &small[..]].concat()
}

/// A small set in the MVTec layout: [`TRAIN_GOOD`] good pictures; a test of 3 good, 2 scratched and 2 dented ones with
/// masks.
pub fn set() -> &'static Path {
    static SET: OnceLock<PathBuf> = OnceLock::new();
    SET.get_or_init(|| {
        let root = shared().join("washers");
        let mut seed = 0;
        for (folder, kind, count) in [
            ("train/good", DemoKind::Good, TRAIN_GOOD),
            ("test/good", DemoKind::Good, 3),
            ("test/scratch", DemoKind::Scratch, 2),
            ("test/dent", DemoKind::Dent, 2),
        ] {
            for i in 0..count {
                seed += 1;
                let shown = render(kind, seed);
                let file = root.join(folder).join(format!("{i:03}.png"));
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                shown.picture.write_png(&file).unwrap();
                if let Some(mask) = shown.mask {
                    let file = root.join("ground_truth").join(kind.name()).join(format!("{i:03}_mask.png"));
                    fs::create_dir_all(file.parent().unwrap()).unwrap();
                    grey(&file, mask.width as u32, mask.height as u32, &mask.data);
                }
            }
        }
        root
    })
}

/// A model of [`set`].
pub fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = shared().join("washers.pbas");
        let run = train(set(), &path, &[]).code(0);
        assert_eq!(run.stdout, "", "training writes no data to stdout");
        path
    })
}

/// Writes a grey PNG of these values.
pub fn grey(path: &Path, width: u32, height: u32, values: &[u8]) {
    image::save_buffer(path, values, width, height, image::ColorType::L8).unwrap();
}

/// A picture of coarse noise, unlike any washer.
pub fn noise(path: &Path, width: u32, height: u32) {
    let value = |i: u32| {
        let (x, y) = (i % width / 9, i / width / 9);
        (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(0x9e37_79b9).rotate_left(7)).wrapping_mul(0x85eb_ca6b)
            >> 24
    };
    let values: Vec<u8> = (0..width * height).map(|i| value(i) as u8).collect();
    grey(path, width, height, &values);
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of the test part of [`set`], to be spoiled.
pub fn test_copy(to: &Path) {
    for part in ["test", "ground_truth"] {
        copy(&set().join(part), &to.join(part));
    }
}

/// Files below a folder, relative, sorted.
pub fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().display().to_string().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// CRC-32 as PNG and model files have it, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// A PNG whose header promises 60,000 x 60,000 pixels and which holds none.
pub fn bomb(path: &Path) {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [kind.as_slice(), data].concat();
        bytes.extend(&body);
        bytes.extend(crc32(&body).to_be_bytes());
    };
    let side = 60_000_u32.to_be_bytes();
    chunk(b"IHDR", &[&side[..], &side, &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]);
    chunk(b"IEND", &[]);
    fs::write(path, bytes).unwrap();
}

/// Pictures that cannot be read, with what is said of each.
pub fn bad_pictures(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    fs::create_dir_all(dir).unwrap();
    let at = |name: &str| dir.join(name);
    fs::write(at("bad_text.png"), "this is no picture\n").unwrap();
    fs::write(at("bad_empty.png"), "").unwrap();
    bomb(&at("bad_bomb.png"));
    noise(&at("whole.jpg"), 64, 64);
    let whole = fs::read(at("whole.jpg")).unwrap();
    fs::remove_file(at("whole.jpg")).unwrap();
    fs::write(at("bad_short.jpg"), &whole[..whole.len() / 2]).unwrap();
    [
        ("bad_bomb.png", "too large: expected at most 100000000 pixels"),
        ("bad_empty.png", "is empty"),
        ("bad_short.jpg", "cut short"),
        ("bad_text.png", "is not a picture"),
    ]
    .map(|(name, text)| (at(name), text))
    .to_vec()
}

/// A file system of some megabytes, where this machine allows one.
#[cfg(target_os = "linux")]
pub struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    /// `None` where nothing can be mounted, as without the rights to.
    pub fn new(size: &str) -> Option<Self> {
        let dir = folder();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|o| o.status.success());
        mounted.then(|| Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
