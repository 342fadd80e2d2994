//! Sample names -> safe, distinct file names.

use sha2::{Digest, Sha256};

/// Longest part of a path that is kept whole, in bytes; file systems commonly allow 255.
const LONGEST: usize = 200;
/// Bytes kept of the beginning of a longer part.
const KEPT: usize = 120;
/// Names that Windows gives to devices, whatever follows the first dot; with `COM` and `LPT` and a digit.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// The relative path (parts joined by `/`, ending in `.png`) at which the heatmap of a sample is written:
/// `test/scratch/001.png` stays, `a.jpg` becomes `a.jpg.png`.
///
/// `sample_name` is relative with `/` between its parts, but may be anything: the result never leads out of the
/// folder it is joined to. `..`, drive letters, backslashes, device names and characters that some system forbids
/// are written as `=` and two hexadecimal digits, an empty part (as before a leading `/`) as `=`. Different names
/// give different paths (on a file system that tells upper from lower case), and no path is the folder of
/// another. Parts too long for a file system are cut and get a digest.
pub fn file_name(sample_name: &str) -> String {
    let mut parts: Vec<&str> = sample_name.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    let mut path = String::new();
    for folder in parts {
        path.push_str(&shorten(hide_png(escape(folder)), folder));
        path.push('/');
    }
    path + &with_png(shorten(escape(name), name))
}

/// `x.png` stays if `x` has no dot, `x` without a dot becomes `x.png.png`, the rest gets `.png`: no two agree.
fn with_png(name: String) -> String {
    match name.strip_suffix(".png") {
        Some(stem) if !stem.is_empty() && !stem.contains('.') => name,
        _ if name.contains('.') => name + ".png",
        _ => name + ".png.png",
    }
}

/// A file always ends in `.png`; so that a folder is never in a file's place, no folder does.
fn hide_png(folder: String) -> String {
    match folder.len().checked_sub(4).and_then(|at| folder.split_at_checked(at)) {
        Some((stem, end)) if end.eq_ignore_ascii_case(".png") => format!("{stem}=2E{}", &end[1..]),
        _ => folder,
    }
}

/// Can be undone, so different parts stay different.
fn escape(part: &str) -> String {
    if part.is_empty() {
        return "=".to_owned();
    }
    let only_dots = part.chars().all(|c| c == '.');
    let device = is_device(part);
    let last = part.chars().count() - 1;
    let mut escaped = String::new();
    for (i, c) in part.chars().enumerate() {
        let forbidden = c.is_ascii_control() || "<>:\"|?*\\=".contains(c);
        // Windows drops dots and spaces at the end.
        let dropped = i == last && (c == '.' || c == ' ');
        if c.is_ascii() && (forbidden || dropped || only_dots || (device && i == 0)) {
            escaped.push_str(&format!("={:02X}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let numbered = stem.strip_prefix("COM").or(stem.strip_prefix("LPT")).is_some_and(|number| {
        let mut digits = number.chars();
        digits.next().is_some_and(|c| c.is_ascii_digit() || "¹²³".contains(c)) && digits.next().is_none()
    });
    numbered || DEVICES.contains(&stem.as_str())
}

/// Cuts `escaped` if it is too long, and adds a digest of what it was made from behind `=-`, which `escape` never
/// writes.
fn shorten(escaped: String, original: &str) -> String {
    if escaped.len() <= LONGEST {
        return escaped;
    }
    let digest = Sha256::digest(original.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let end = (0..=KEPT).rev().find(|&end| escaped.is_char_boundary(end)).unwrap_or(0);
    format!("{}=-{digest}", &escaped[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::path::{Component, Path};

    #[test]
    fn ordinary_names_stay_readable() {
        let cases = [
            ("001.png", "001.png"),
            ("test/scratch/001.png", "test/scratch/001.png"),
            ("a.jpg", "a.jpg.png"),
            ("a.PNG", "a.PNG.png"),
            ("a", "a.png.png"),
            ("part 7.good.png", "part 7.good.png.png"),
            ("Zähler/ü.bmp", "Zähler/ü.bmp.png"),
        ];
        for (name, expected) in cases {
            assert_eq!(file_name(name), expected);
        }
    }

    /// Names made to escape, to collide or to upset a file system.
    fn hostile() -> Vec<String> {
        let pieces = [
            "",
            ".",
            "..",
            "...",
            "a",
            "a.png",
            "a.jpg",
            "a.jpg.png",
            "a.png.png",
            ".png",
            ".png.png",
            "a=2Epng",
        ];
        let mut names: Vec<String> = pieces.iter().map(|s| s.to_string()).collect();
        for first in pieces {
            names.extend(pieces.iter().map(|second| format!("{first}/{second}")));
            names.extend(pieces.iter().map(|second| format!("{first}\\{second}")));
            names.push(format!("../../{first}"));
        }
        let more = [
            "C:\\x.png",
            "C:x.png",
            "C:/x.png",
            "//server/share/x.png",
            "\\\\?\\C:\\x.png",
            "NUL",
            "nul.png",
            "Aux.txt/x.png",
            "COM1.png",
            "com¹.png",
            "COM12.png",
            "x.png ",
            "x.png.",
            "x\0.png",
            "x\n.png",
            "a:b.png",
            "=",
            "==",
            "=41.png",
            "A.png",
            "~/x.png",
            "x/",
            "/etc/passwd",
        ];
        names.extend(more.map(String::from));
        names.extend([200, 201, 255, 4000].map(|n| "ä".repeat(n) + ".png"));
        names.extend([199, 200, 201].map(|n| "b".repeat(n) + "/" + &"?".repeat(n)));
        names
    }

    #[test]
    fn hostile_names_stay_inside_and_legal() {
        for name in hostile() {
            let path = file_name(&name);
            assert!(path.ends_with(".png"), "{name:?} -> {path}");
            assert!(
                Path::new(&path).components().all(|c| matches!(c, Component::Normal(_))),
                "{name:?} -> {path}"
            );
            for part in path.split('/') {
                assert!(!part.is_empty() && part.len() <= 255, "{name:?} -> {path}");
                assert!(!part.ends_with(['.', ' ']) && !is_device(part), "{name:?} -> {path}");
                assert!(
                    !part.contains(['\\', ':', '*', '?', '"', '<', '>', '|', '\0', '\n']),
                    "{name:?} -> {path}"
                );
            }
        }
    }

    #[test]
    fn different_names_never_meet_as_files_or_folders() {
        let mut files = HashMap::new();
        for name in hostile() {
            if let Some(other) = files.insert(file_name(&name), name.clone()) {
                assert_eq!(other, name, "both are written to {}", file_name(&name));
            }
        }
        assert!(files.len() > 300, "{}", files.len());
        for path in files.keys() {
            for folder in Path::new(path).ancestors().skip(1) {
                assert!(!files.contains_key(folder.to_str().unwrap()), "{path} lies in a file");
            }
        }
    }
}
