//! What the doctor says to somebody who trains or calibrates without having asked it: the findings that matter there, a line each.

use std::path::Path;

use super::report::{Finding, Kind, Severity};
use super::{Look, Picture, Role, conclude};
use crate::settings::Settings;

/// Most findings that are told; the report has all.
const MOST: usize = 5;

/// Errors and warnings about good pictures, a line each, the gravest first, but for the kinds in `known`, which the caller tells
/// itself. `looks` are those of `pictures`, one each.
#[must_use]
pub fn warnings(pictures: &[&Path], looks: Vec<Look>, settings: &Settings, known: &[Kind]) -> Vec<String> {
    let folder = common_folder(pictures);
    let named = |path: &&Path| {
        let below = path.strip_prefix(folder).unwrap_or(path);
        let parts: Vec<_> = below.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        Picture { path: path.to_path_buf(), name: parts.join("/"), role: Role::Good }
    };
    let listed: Vec<Picture> = pictures.iter().map(named).collect();
    let looks: Vec<_> = looks.into_iter().map(Ok).collect();
    let report = conclude(&listed, &looks, settings);
    let matters = |f: &&Finding| f.severity <= Severity::Warning && !known.contains(&f.kind);
    let grave: Vec<&Finding> = report.findings.iter().filter(matters).collect();
    let mut lines: Vec<String> = grave.iter().take(MOST).map(|f| f.message.clone()).collect();
    if grave.len() > MOST {
        lines.push(format!("and {} more findings", grave.len() - MOST));
    }
    if let Some(last) = lines.last_mut() {
        last.push_str(" (`pbas doctor FOLDER` shows the pictures and says what to do)");
    }
    lines
}

/// The deepest folder that holds all files.
fn common_folder<'a>(files: &[&'a Path]) -> &'a Path {
    let mut folders = files.iter().map(|f| f.parent().unwrap_or(Path::new("")));
    let mut common = folders.next().unwrap_or(Path::new(""));
    for folder in folders {
        while !folder.starts_with(common) {
            common = common.parent().unwrap_or(Path::new(""));
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rgb8;
    use crate::settings::Preset;

    #[test]
    fn grave_findings_are_told_and_known_ones_are_not() {
        let picture = |i: usize| {
            let value = |p: usize| ((p * (2 * i + 3)) % 251) as u8;
            Rgb8 { width: 48, height: 48, data: (0..48 * 48 * 3).map(value).collect() }
        };
        // The bytes of a file are only digested here.
        let look = |i: usize| Look::at(&[i as u8], &picture(i), false).unwrap();
        let paths: Vec<std::path::PathBuf> = (0..12).map(|i| format!("set/a/{i}.png").into()).collect();
        let paths: Vec<&Path> = paths.iter().map(|p| p.as_path()).collect();
        let mut looks: Vec<Look> = (0..12).map(look).collect();
        looks[7] = looks[2].clone();
        let settings = Settings::preset(Preset::Fast);
        let said = warnings(&paths, looks.clone(), &settings, &[]);
        assert!(
            said.iter().any(|l| l.contains("the same file as another good picture: `7.png`")),
            "{said:?}"
        );
        assert!(said.last().unwrap().ends_with("what to do)"));
        let fewer = warnings(&paths, looks.clone(), &settings, &[Kind::Duplicates]);
        assert_eq!(fewer.len() + 1, said.len());
        let few = warnings(&paths[..3], looks[..3].to_vec(), &settings, &[]);
        assert!(few[0].starts_with("only 3 good pictures: fewer than 5"), "{few:?}");
        assert_eq!(common_folder(&[Path::new("a/b/1"), Path::new("a/c/1")]), Path::new("a"));
    }
}
