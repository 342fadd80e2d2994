//! The folder of a benchmark: `results.jsonl`, to which lines are only ever added; the settings they share; a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{Protocol, Record};
use crate::settings::Settings;
use crate::{Error, ErrorKind, Result};

/// The file of finished runs.
pub const RESULTS: &str = "results.jsonl";
const CONFIG: &str = "bench.json";
const LOCK: &str = ".lock";
const GALLERY: &str = "gallery";

/// What all runs of a folder share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Version of this layout.
    pub format: u32,
    /// What may choose a model.
    pub protocol: Protocol,
    /// Whether nearest neighbours are asked for a second opinion.
    pub baseline: bool,
    /// With protocol `paper`: epochs between two looks at the test pictures.
    pub oracle_every: Option<u64>,
    /// SHA-256 of the backbone's weights.
    pub backbone_sha256: String,
    /// Settings of the base variant with seed 0; sizes may still be `auto`.
    pub settings: Settings,
}

/// A folder that this process alone writes.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    results: File,
    /// Bytes of whole lines.
    len: u64,
    records: Vec<Record>,
    repaired: Option<String>,
    /// Released by the system when the process ends, however it ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder or goes on with it. A last line that a kill cut short is removed.
    ///
    /// # Errors
    /// Another process writes there; results of other settings; a damaged line that is not the last; the system refuses.
    pub fn open(dir: &Path, config: &Config) -> Result<Self> {
        let refused = |e| Error::io("cannot use the results folder", dir, e);
        fs::create_dir_all(dir.join(GALLERY)).map_err(refused)?;
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(dir.join(LOCK))
            .map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::caller(format!("`{}` is in use by another run of `pbas bench`", dir.display()))
                    .with_hint("wait for it, or give another folder; to share the work of one benchmark use `--shard` with a folder each"));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("cannot lock", &dir.join(LOCK), e)),
        }
        let path = dir.join(RESULTS);
        let io = |e| Error::io("cannot open", &path, e);
        let mut results = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(io)?;
        let mut text = Vec::new();
        results.read_to_end(&mut text).map_err(io)?;
        let (whole, repaired) = whole_lines(&text);
        let records = parse(&text[..whole], &path)?;
        check_config(dir, config, records.is_empty())?;
        let mut folder =
            Self { dir: dir.to_owned(), results, len: whole as u64, records, repaired: None, _lock: lock };
        if let Some(what) = repaired {
            folder.results.set_len(whole as u64).map_err(|e| Error::io("cannot repair", &path, e))?;
            folder.repaired = Some(what);
        }
        Ok(folder)
    }

    /// What was wrong with the last line, if anything.
    #[must_use]
    pub fn repaired(&self) -> Option<&str> {
        self.repaired.as_deref()
    }

    /// Finished runs, in the order in which they were finished.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Adds a finished run, which is on the disk when this returns.
    ///
    /// # Errors
    /// A full disk, or what else keeps the line from being written; the file is then as it was.
    pub fn append(&mut self, record: Record) -> Result<()> {
        let path = self.dir.join(RESULTS);
        let line = line_of(&record)?;
        let written = self.results.write_all(&line).and_then(|()| self.results.sync_data());
        if let Err(e) = written {
            // What is there of the line would be taken for a torn one and removed by the next start anyway.
            let _ = self.results.set_len(self.len);
            return Err(Error::io("cannot write a finished run to", &path, e));
        }
        self.len += line.len() as u64;
        self.records.push(record);
        Ok(())
    }

    /// Writes a picture of the gallery.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write_gallery(dir: &Path, file: &str, jpeg: &[u8]) -> Result<()> {
        let path = dir.join(GALLERY).join(file);
        fs::write(&path, jpeg).map_err(|e| Error::io("cannot write", &path, e))
    }

    /// Copies a picture of the gallery from another folder; one that is missing there is left out.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn copy_gallery(&self, from: &Path, file: &str) -> Result<()> {
        let (from, to) = (from.join(GALLERY).join(file), self.dir.join(GALLERY).join(file));
        if from.exists() && from != to {
            fs::copy(&from, &to).map_err(|e| Error::io("cannot copy to", &to, e))?;
        }
        Ok(())
    }
}

/// The line of a record.
fn line_of(record: &Record) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot write a finished run").with_source(e))?;
    line.push(b'\n');
    Ok(line)
}

/// The bytes of whole lines, and what is said of the rest.
fn whole_lines(text: &[u8]) -> (usize, Option<String>) {
    let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let torn = text.len() - whole;
    let said =
        format!("the last line of `{RESULTS}` was cut short after {torn} bytes: its run is done again");
    (whole, (torn > 0).then_some(said))
}

fn parse(text: &[u8], path: &Path) -> Result<Vec<Record>> {
    let lines = text.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(i, line)| {
            let record: Record = serde_json::from_slice(line).map_err(|e| {
                Error::input(format!(
                    "`{}` line {}: expected a finished run of `pbas bench`",
                    path.display(),
                    i + 1
                ))
                .with_source(e)
            })?;
            if record.format != Record::FORMAT {
                return Err(Error::unsupported(format!(
                    "`{}` line {}: expected format {}, found {}",
                    path.display(),
                    i + 1,
                    Record::FORMAT,
                    record.format
                )));
            }
            Ok(record)
        })
        .collect()
}

/// The finished runs of a folder that somebody else may be writing; a last line that is not whole yet is passed over.
///
/// # Errors
/// No results there, or a damaged line.
pub fn read_results(dir: &Path) -> Result<(Config, Vec<Record>)> {
    let hint = "give a folder that `pbas bench` has written";
    let path = dir.join(RESULTS);
    let text = fs::read(&path).map_err(|e| Error::io("cannot read", &path, e).with_hint(hint))?;
    let config = read_config(dir)?.ok_or_else(|| {
        Error::input(format!("`{}`: expected `{CONFIG}` beside `{RESULTS}`, found none", dir.display()))
            .with_hint(hint)
    })?;
    Ok((config, parse(&text[..whole_lines(&text).0], &path)?))
}

fn read_config(dir: &Path) -> Result<Option<Config>> {
    let path = dir.join(CONFIG);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| Error::io("cannot read", &path, e))?,
    };
    let config = serde_json::from_slice(&text).map_err(|e| {
        Error::input(format!("`{}`: expected the settings of a benchmark", path.display())).with_source(e)
    })?;
    Ok(Some(config))
}

/// Writes the settings, or compares them with those that are there. Without finished runs nothing binds.
fn check_config(dir: &Path, config: &Config, empty: bool) -> Result<()> {
    let found = if empty { None } else { read_config(dir)? };
    let Some(found) = found else {
        let path = dir.join(CONFIG);
        let refused = |e| Error::io("cannot write", &path, e);
        let text = serde_json::to_vec_pretty(config)
            .map_err(|e| Error::new(ErrorKind::Io, "cannot write settings").with_source(e))?;
        let mut file = tempfile::Builder::new().prefix(".pbas-").tempfile_in(dir).map_err(refused)?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(refused)?;
        return file.persist(&path).map(drop).map_err(|e| refused(e.error));
    };
    same_config(&found, config, dir)
}

/// That the results in `dir`, of the settings `found`, are of the settings `wanted`.
pub(super) fn same_config(found: &Config, wanted: &Config, dir: &Path) -> Result<()> {
    let values = [found, wanted].map(|c| serde_json::to_value(c).unwrap_or_default());
    match difference("", &values[0], &values[1]) {
        None => Ok(()),
        Some((name, there, here)) => Err(Error::caller(format!(
            "`{}` holds results of other settings: `{name}` is {there} there, {here} here",
            dir.display()
        ))
        .with_hint("give the options of before, or another folder")),
    }
}

/// The first setting that differs: its name, and both values.
fn difference(name: &str, a: &serde_json::Value, b: &serde_json::Value) -> Option<(String, String, String)> {
    if let (Some(x), Some(y)) = (a.as_object(), b.as_object()) {
        let absent = serde_json::Value::Null;
        let of = |o: &serde_json::Map<_, _>, k: &String| o.get(k).cloned().unwrap_or(absent.clone());
        let keys = x.keys().chain(y.keys().filter(|k| !x.contains_key(*k)));
        let below = |k: &String| if name.is_empty() { k.clone() } else { format!("{name}.{k}") };
        return keys.into_iter().find_map(|k| difference(&below(k), &of(x, k), &of(y, k)));
    }
    (a != b).then(|| (name.to_owned(), a.to_string(), b.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named() {
        let a = json!({"x": 1, "s": {"folds": 3, "seed": 0}});
        assert_eq!(difference("", &a, &a), None);
        let b = json!({"x": 1, "s": {"folds": 2, "seed": 0}});
        assert_eq!(difference("", &a, &b), Some(("s.folds".into(), "3".into(), "2".into())));
        let c = json!({"x": 1, "s": {"folds": 3}, "y": true});
        assert_eq!(difference("", &a, &c).unwrap().0, "s.seed");
    }

    #[test]
    fn torn_ends_are_seen() {
        assert_eq!(whole_lines(b""), (0, None));
        assert_eq!(whole_lines(b"{}\n{}\n"), (6, None));
        let (whole, said) = whole_lines(b"{}\n{\"a");
        assert_eq!(whole, 3);
        assert!(said.unwrap().contains("after 3 bytes"));
        assert_eq!(whole_lines(b"{\"a").0, 0);
    }
}
