//! Output paths, checked before the work that is to end in them; files that appear whole or not at all.

use std::fs;
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};

use pbas::{Error, Result};

/// The folder that a file lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes sure that `path` can be written as a file: its folder is there and writable, and it is not a folder itself.
///
/// # Errors
/// Names `path` and what is wrong; `what` says what it is for ("model").
pub fn check_file(what: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    if path.file_name().is_none() || path.is_dir() {
        return Err(Error::caller(format!("cannot write {what} `{shown}`: it is a folder"))
            .with_hint("name a file in it"));
    }
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Err(e) if e.kind() == IoKind::NotFound => {
            return Err(Error::caller(format!(
                "cannot write {what} `{shown}`: folder `{}` does not exist",
                folder.display()
            ))
            .with_hint("make the folder first"));
        }
        Err(e) => return Err(Error::io(&format!("cannot write {what}"), path, e)),
        Ok(m) if !m.is_dir() => {
            return Err(Error::caller(format!(
                "cannot write {what} `{shown}`: `{}` is not a folder",
                folder.display()
            )));
        }
        Ok(_) => {}
    }
    probe(folder).map_err(|e| Error::io(&format!("cannot write {what}"), path, e))
}

/// Makes sure that files can be written into the folder `path`, which is made if missing.
///
/// # Errors
/// As [`check_file`].
pub fn check_folder(what: &str, path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        return Err(Error::caller(format!(
            "cannot write {what} into `{}`: it is a file, not a folder",
            path.display()
        )));
    }
    let refused = |e| Error::io(&format!("cannot write {what} into"), path, e);
    fs::create_dir_all(path).map_err(refused)?;
    probe(path).map_err(refused)
}

/// Permissions alone do not tell (read-only file systems, access lists, quotas): a file is made and removed.
fn probe(folder: &Path) -> std::io::Result<()> {
    tempfile::Builder::new().prefix(".pbas-").tempfile_in(folder).map(drop)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// The operating system refuses; a file that was there is then as it was.
pub fn write_file(what: &str, path: &Path, bytes: &[u8]) -> Result<()> {
    let refused = |e| Error::io(&format!("cannot write {what}"), path, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pbas-");
    #[cfg(unix)]
    {
        // A temporary file is the owner's alone; a result gets what the umask leaves, as any file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder_of(path)).map_err(refused)?;
    file.write_all(bytes).map_err(refused)?;
    file.as_file().sync_all().map_err(refused)?;
    file.persist(path).map(drop).map_err(|e| refused(e.error))
}

/// `path` with something added to its last part: `a/part.pbas` -> `a/part.pbas.checkpoint`.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A path as it is written in a shell.
pub fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Names by which heatmaps are filed: the paths below the deepest folder that holds all pictures, with `/`.
pub fn names_below_common_folder(paths: &[PathBuf]) -> Vec<String> {
    let mut parents = paths.iter().map(|p| p.parent().unwrap_or(Path::new("")));
    let mut common = parents.next().unwrap_or(Path::new("")).to_path_buf();
    for parent in parents {
        while !parent.starts_with(&common) {
            // Ends at the empty path at the latest, with which every relative path starts.
            if !common.pop() {
                common.clear();
                break;
            }
        }
    }
    let name = |path: &PathBuf| {
        let below = path.strip_prefix(&common).unwrap_or(path);
        let parts: Vec<_> = below.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        parts.join("/")
    };
    paths.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_distinct() {
        let names =
            |paths: &[&str]| names_below_common_folder(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["parts/a/1.png"]), ["1.png"]);
        assert_eq!(names(&["parts/a/1.png", "parts/a/2.png"]), ["1.png", "2.png"]);
        assert_eq!(names(&["parts/a/1.png", "parts/b/1.png"]), ["a/1.png", "b/1.png"]);
        assert_eq!(names(&["a/1.png", "1.png"]), ["a/1.png", "1.png"]);
        assert_eq!(names(&["/x/1.png", "y/1.png"]).iter().collect::<std::collections::HashSet<_>>().len(), 2);
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(shell(Path::new("a/b-1.pbas")), "a/b-1.pbas");
        assert_eq!(shell(Path::new("my parts/it's")), "'my parts/it'\\''s'");
        assert_eq!(with_suffix(Path::new("a/p.pbas"), ".checkpoint"), Path::new("a/p.pbas.checkpoint"));
    }
}
