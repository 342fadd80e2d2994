//! Says at build time which commit the program is made from, for the records of `pbas bench`: `PBAS_COMMIT` where that is set; else, in release
//! builds, what git says of these sources; else nothing. Neither git nor a repository is needed.
//!
//! A debug build asks nobody, so that a commit rebuilds nothing. A release build looks again after a commit or a change of the sources.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PBAS_COMMIT");
    let given = std::env::var("PBAS_COMMIT").unwrap_or_default();
    let commit = match given.trim() {
        "" if std::env::var("PROFILE").is_ok_and(|p| p == "release") => from_git().unwrap_or_default(),
        given => given.to_owned(),
    };
    // Whatever it is, it is one short word in a line of output.
    let commit: String = commit.chars().filter(char::is_ascii_graphic).take(80).collect();
    println!("cargo::rustc-env=PBAS_COMMIT={commit}");
}

/// The commit that is checked out, with `-dirty` if sources differ from it; `None` outside the project's own repository.
fn from_git() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&root).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then_some(text)
    };
    // Sources that were unpacked inside another repository are not of its commit.
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root {
        return None;
    }
    let sources = ["crates", "Cargo.toml", "Cargo.lock"];
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={}", root.join(log).display());
    for part in ["crates/pbas-nn/src", "crates/pbas/src", "crates/pbas-cli/src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &sources[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}
