//! Which files of the folder are complete, and in which order they came.
//!
//! A picture is a file whose name ends as pictures do ([`is_picture_path`]) and does not begin with a dot. It is complete when
//!
//! - its size and time have stayed the same for the quiet time and it can be decoded,
//! - or it was renamed into its place (where the system tells of that) and can be decoded,
//! - or there is a file beside it with `.done` added to its name (`a.png.done`) or in place of its ending (`a.done`).
//!
//! One that has stayed the same for the longer patience and still cannot be decoded is given up. Files that are complete at the same look
//! are taken by time (of the last write), then by name; one that is still growing holds up no other.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use pbas::Result;
use pbas::image::is_picture_path;

use super::Patience;
use crate::record::Record;

/// A file that is worth a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Last written, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// If it cannot be decoded now, it never will be.
    pub last_try: bool,
}

/// A file that is not taken yet.
#[derive(Debug)]
struct Seen {
    size: u64,
    mtime_ns: i64,
    first: Instant,
    since: Instant,
    /// Renamed into its place.
    whole: bool,
    /// It was tried as it is, and could not be decoded.
    tried: bool,
    /// It was said that it does not end.
    told: bool,
}

/// What a look at the folder gave.
#[derive(Debug, Default)]
pub struct Look {
    /// Complete files in the order in which they are to be taken.
    pub candidates: Vec<Candidate>,
    /// What people should know.
    pub remarks: Vec<String>,
    /// Files that are waited for.
    pub waiting: usize,
}

/// What is known of a folder between looks.
#[derive(Debug)]
pub struct Scanner {
    folder: PathBuf,
    patience: Patience,
    seen: HashMap<PathBuf, Seen>,
    /// Files that are done with, as they were.
    settled: HashMap<PathBuf, (u64, i64)>,
    renamed: HashSet<PathBuf>,
    gone: bool,
}

impl Scanner {
    /// Of a folder at which nobody has looked yet.
    #[must_use]
    pub fn new(folder: &Path, patience: Patience) -> Self {
        Self {
            folder: folder.to_owned(),
            patience,
            seen: HashMap::new(),
            settled: HashMap::new(),
            renamed: HashSet::new(),
            gone: false,
        }
    }

    /// The system says that a file was renamed into the folder.
    pub fn renamed(&mut self, path: &Path) {
        if path.parent() == Some(&self.folder) {
            self.renamed.insert(path.to_owned());
        }
    }

    /// The folder cannot be read at present.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// A candidate was not complete after all.
    pub fn not_yet(&mut self, candidate: &Candidate) {
        if let Some(seen) = self.seen.get_mut(&candidate.path) {
            seen.tried = true;
        }
    }

    /// A candidate is done with.
    pub fn settle(&mut self, candidate: &Candidate) {
        self.seen.remove(&candidate.path);
        self.settled.insert(candidate.path.clone(), (candidate.size, candidate.mtime_ns));
    }

    /// Looks at the folder. What the record knows is not taken again.
    ///
    /// # Errors
    /// The record cannot be read. A folder that cannot be read is a remark.
    pub fn look(&mut self, record: &Record, now: Instant) -> Result<Look> {
        let mut look = Look::default();
        let listed = match list(&self.folder) {
            Ok(listed) => listed,
            Err(e) => {
                if !std::mem::replace(&mut self.gone, true) {
                    look.remarks.push(format!(
                        "folder `{}` cannot be read ({e}); waiting for it to come back",
                        self.folder.display()
                    ));
                }
                return Ok(look);
            }
        };
        if std::mem::take(&mut self.gone) {
            look.remarks.push(format!("folder `{}` is back", self.folder.display()));
        }
        let done: HashSet<OsString> =
            listed.iter().filter(|f| is_done(&f.path)).map(|f| name(&f.path)).collect();
        let files: HashMap<PathBuf, (u64, i64)> = listed
            .into_iter()
            .filter(|f| is_picture_path(&f.path) && !is_hidden(&f.path))
            .map(|f| (f.path, (f.size, f.mtime_ns)))
            .collect();
        self.settled.retain(|path, _| files.contains_key(path));
        self.seen.retain(|path, _| files.contains_key(path));
        for (path, (size, mtime_ns)) in files {
            if self.settled.get(&path) == Some(&(size, mtime_ns)) {
                continue;
            }
            if !self.seen.contains_key(&path) {
                match record.known(&path, size, mtime_ns)? {
                    // Moved away and there again: its content decides.
                    None | Some((_, true)) => {}
                    Some((_, false)) => {
                        self.settled.insert(path, (size, mtime_ns));
                        continue;
                    }
                }
            }
            let done = done_names(&path).iter().any(|n| done.contains(n));
            if let Some(candidate) = self.consider(&path, size, mtime_ns, done, now, &mut look.remarks) {
                look.candidates.push(candidate);
            }
        }
        self.renamed.clear();
        look.candidates.sort_by(|a, b| a.mtime_ns.cmp(&b.mtime_ns).then_with(|| a.path.cmp(&b.path)));
        look.waiting = self.seen.len() - look.candidates.len();
        Ok(look)
    }

    /// Whether a file that is not done with is worth a try.
    fn consider(
        &mut self,
        path: &Path,
        size: u64,
        mtime_ns: i64,
        done: bool,
        now: Instant,
        remarks: &mut Vec<String>,
    ) -> Option<Candidate> {
        let seen = self.seen.entry(path.to_owned()).or_insert(Seen {
            size,
            mtime_ns,
            first: now,
            since: now,
            whole: false,
            tried: false,
            told: false,
        });
        if (seen.size, seen.mtime_ns) != (size, mtime_ns) {
            (seen.size, seen.mtime_ns, seen.since, seen.tried, seen.whole) =
                (size, mtime_ns, now, false, false);
        }
        seen.whole |= self.renamed.contains(path);
        let still = now.duration_since(seen.since);
        let last_try = still >= self.patience.give_up;
        if !last_try && now.duration_since(seen.first) >= self.patience.give_up && !seen.told {
            seen.told = true;
            remarks.push(format!(
                "{:?} has not stayed the same for long enough in {} s: it is still being written, the others go on",
                name(path),
                self.patience.give_up.as_secs()
            ));
        }
        let complete = match self.patience.done_files {
            true => done,
            false => done || seen.whole || still >= self.patience.quiet,
        };
        let candidate = Candidate { path: path.to_owned(), size, mtime_ns, last_try };
        (complete && (!seen.tried || last_try)).then_some(candidate)
    }
}

struct Listed {
    path: PathBuf,
    size: u64,
    mtime_ns: i64,
}

fn list(folder: &Path) -> std::io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // One that is gone by now, or cannot be asked about, is looked at the next time.
        if let Some((size, mtime_ns)) = state(&path) {
            listed.push(Listed { path, size, mtime_ns });
        }
    }
    Ok(listed)
}

/// Size and time of a file; `None` where there is none, or something that is no file.
#[must_use]
pub fn state(path: &Path) -> Option<(u64, i64)> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let modified = metadata.modified().ok()?;
    let ns = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    };
    Some((metadata.len(), ns))
}

fn name(path: &Path) -> OsString {
    path.file_name().unwrap_or_default().to_owned()
}

fn is_hidden(path: &Path) -> bool {
    name(path).as_encoded_bytes().starts_with(b".")
}

fn is_done(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("done"))
}

/// The names that a picture's `.done` file may have.
#[must_use]
pub fn done_names(path: &Path) -> [OsString; 2] {
    let mut added = name(path);
    added.push(".done");
    [added, name(&path.with_extension("done"))]
}
