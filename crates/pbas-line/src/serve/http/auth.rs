//! Bearer tokens from a file: lines of `read TOKEN` or `admin TOKEN`, empty lines and lines that begin with `#`.

use std::path::Path;
use std::sync::Arc;

use pbas::{Error, Result};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::page::Role;

/// Fewer characters can be guessed.
const SHORTEST: usize = 16;
/// A file of more bytes holds something else.
const LONGEST_FILE: u64 = 1 << 20;

/// Tokens with their roles. Only their digests are kept. Clones are the same.
#[derive(Clone)]
pub struct Tokens(Arc<Vec<([u8; 32], Role)>>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Reads a file; also says what is wrong with it, where it can be used all the same (others may read it).
    ///
    /// # Errors
    /// It cannot be read, holds no token or one that is too short, or a line that is none.
    pub fn read(path: &Path) -> Result<(Self, Option<String>)> {
        let shown = path.display();
        let unreadable = |e| Error::io("cannot read token file", path, e);
        let about = std::fs::metadata(path).map_err(unreadable)?;
        if about.len() > LONGEST_FILE {
            return Err(Error::limits(format!(
                "token file `{shown}`: expected at most {LONGEST_FILE} bytes"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = || format!("token file `{shown}`, line {number}");
            let words: Vec<&str> = line.split_whitespace().collect();
            // What was found instead is not said: it may be a secret.
            let (role, token) = match words[..] {
                ["read", token] => (Role::Read, token),
                ["admin", token] => (Role::Admin, token),
                _ => return Err(Error::input(format!("{}: expected `read TOKEN` or `admin TOKEN`", at()))),
            };
            if token.len() < SHORTEST {
                return Err(Error::input(format!(
                    "{}: expected a token of at least {SHORTEST} characters, found {}",
                    at(),
                    token.len()
                ))
                .with_hint("make one with `openssl rand -hex 24`"));
            }
            tokens.push((digest(token), role));
        }
        if tokens.is_empty() {
            return Err(Error::input(format!(
                "token file `{shown}`: expected `read TOKEN` or `admin TOKEN`, found no token"
            )));
        }
        Ok((
            Self(Arc::new(tokens)),
            readable_by_others(&about).map(|how| format!("token file `{shown}` {how}")),
        ))
    }

    /// What the sender of this `Authorization` header may do. Takes the same time whatever token is asked about: every one is compared, by
    /// its digest.
    #[must_use]
    pub fn role(&self, header: Option<&[u8]>) -> Option<Role> {
        let header = std::str::from_utf8(header?).ok()?;
        let (scheme, token) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let asked = digest(token.trim());
        let mut found = 0_u8;
        for (known, role) in self.0.iter() {
            let rank = match role {
                Role::Read => 1,
                Role::Admin => 2,
            };
            let same: Choice = known[..].ct_eq(&asked[..]);
            found |= u8::conditional_select(&0, &rank, same);
        }
        match found {
            0 => None,
            1 => Some(Role::Read),
            _ => Some(Role::Admin),
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(unix)]
fn readable_by_others(about: &std::fs::Metadata) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = about.permissions().mode() & 0o777;
    (mode & 0o077 != 0)
        .then(|| format!("can be read by others (mode {mode:o}): `chmod 600` makes it yours alone"))
}

#[cfg(not(unix))]
fn readable_by_others(_about: &std::fs::Metadata) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn roles_by_token() {
        let (_dir, path) = file("# line 4\n\nread aaaaaaaaaaaaaaaaaaaa\nadmin bbbbbbbbbbbbbbbbbbbb\n");
        let (tokens, _) = Tokens::read(&path).unwrap();
        let role = |header: &str| tokens.role(Some(header.as_bytes()));
        assert_eq!(role("Bearer aaaaaaaaaaaaaaaaaaaa"), Some(Role::Read));
        assert_eq!(role("bearer bbbbbbbbbbbbbbbbbbbb"), Some(Role::Admin));
        for wrong in [
            "Bearer aaaaaaaaaaaaaaaaaaa",
            "Bearer ",
            "Basic aaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaa",
            "",
        ] {
            assert_eq!(role(wrong), None, "{wrong}");
        }
        assert_eq!((tokens.role(None), tokens.role(Some(&[0xff, b' ']))), (None, None));
        assert!(!format!("{tokens:?}").contains("aaaa"));
    }

    #[test]
    fn files_that_are_none() {
        for (text, said) in [
            ("", "found no token"),
            ("# nothing\n", "found no token"),
            ("read short\n", "line 1: expected a token of at least 16 characters, found 5"),
            ("\nwrite aaaaaaaaaaaaaaaaaaaa\n", "line 2: expected `read TOKEN`"),
            ("aaaaaaaaaaaaaaaaaaaa\n", "line 1: expected `read TOKEN`"),
        ] {
            let (_dir, path) = file(text);
            let e = Tokens::read(&path).unwrap_err().to_string();
            assert!(e.contains(said) && !e.contains("aaaa"), "{e}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn others_that_may_read_are_told_of() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, path) = file("read aaaaaaaaaaaaaaaaaaaa\n");
        let warning = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Tokens::read(&path).unwrap().1
        };
        assert_eq!((warning(0o600), warning(0o400)), (None, None));
        assert!(warning(0o644).unwrap().contains("mode 644") && warning(0o640).is_some());
    }
}
