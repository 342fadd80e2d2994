//! Which pictures are looked at, and what each is for. Lists; decodes nothing.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::dataset::{Label, good_pictures, test_set};

/// What a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A good part, to learn from.
    Good,
    /// A good part of the test.
    TestGood,
    /// A defective part of the test.
    TestDefective,
}

impl Role {
    /// As it is written in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::TestGood => "test_good",
            Self::TestDefective => "test_defective",
        }
    }
}

/// A picture to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Where it lies.
    pub path: PathBuf,
    /// How it is called in the report: its path below the folder that was given, with `/`. Each name once.
    pub name: String,
    /// What it is for.
    pub role: Role,
}

/// The pictures of a plain folder of good ones, or of a category with `train/good` and `test`; and what is odd about the test
/// (one sentence fragment each), which does not prevent training.
///
/// # Errors
/// As [`good_pictures`].
pub fn pictures(dir: &Path) -> Result<(Vec<Picture>, Vec<String>)> {
    let named = |path: PathBuf, role| {
        let below = path.strip_prefix(dir).unwrap_or(&path);
        let parts: Vec<_> = below.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        Picture { name: parts.join("/"), path, role }
    };
    let mut all: Vec<Picture> = good_pictures(dir)?.into_iter().map(|p| named(p, Role::Good)).collect();
    let mut odd = Vec::new();
    // A plain folder of good pictures may not have a `test`: listing them has refused that.
    if dir.join("test").is_dir() {
        match test_set(dir) {
            Ok(set) => {
                odd = set.warnings;
                all.extend(set.samples.into_iter().map(|s| {
                    let role = match s.label {
                        Label::Good => Role::TestGood,
                        Label::Defective => Role::TestDefective,
                    };
                    named(s.path, role)
                }));
            }
            Err(e) => odd.push(crate::error::chain(&e)),
        }
    }
    Ok((all, odd))
}
