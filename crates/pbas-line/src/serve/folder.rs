//! A folder of models (`--models DIR`): a file that appears is put into service, one that changes replaces its model, one that goes takes it
//! out. Looked at by polling, since network shares do not notify.
//!
//! A file is taken once its size and time have stayed the same for one look; it is loaded and self-tested beside the model in service, then
//! the two are exchanged. A file that does not load leaves the old model in service, and that is said once for every state of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use pbas::error::chain;
use pbas::{Error, Result};

use super::metrics::Metrics;
use super::registry::Registry;
use crate::judge::Judge;

/// Time between two looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The ending of model files.
const EXTENSION: &str = "pbas";

/// Size and time of a file: what changes when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    size: u64,
    modified: Option<SystemTime>,
}

#[derive(Debug)]
struct Seen {
    state: State,
    /// Whether this state has been loaded, or refused.
    done: bool,
    /// The name under which the file is in service.
    in_service: Option<String>,
}

/// Problems by file, for whoever asks (`GET /v1/models`). Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Problems(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl Problems {
    fn set(&self, path: &Path, problem: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => all.insert(path.to_owned(), problem),
            None => all.remove(path),
        };
    }

    /// The files that could not be put into service, with the reason.
    #[must_use]
    pub fn all(&self) -> Vec<(PathBuf, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(path, problem)| (path.clone(), problem.clone())).collect()
    }
}

/// What is known of the folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    registry: Registry,
    metrics: Metrics,
    problems: Problems,
    files: BTreeMap<PathBuf, Seen>,
    vanished: bool,
}

impl Folder {
    /// A folder that nothing is known of as yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(path: &Path, registry: Registry, metrics: Metrics, problems: Problems) -> Result<Self> {
        list(path)?;
        Ok(Self {
            path: path.to_owned(),
            registry,
            metrics,
            problems,
            files: BTreeMap::new(),
            vanished: false,
        })
    }

    /// Takes what is there now, without waiting for files to stay the same: for the start.
    pub fn take_all(&mut self) {
        self.look();
        self.look();
    }

    /// Looks every [`LOOK_EVERY`] until told to stop.
    pub fn watch(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.look();
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Looks once.
    pub fn look(&mut self) {
        let found = match list(&self.path) {
            Ok(found) => found,
            Err(e) => {
                // A share that dropped is no wish to take every model out of service.
                if !self.vanished {
                    tracing::warn!(
                        error = chain(&e),
                        "the models' folder cannot be read; all stay in service"
                    );
                }
                self.vanished = true;
                return;
            }
        };
        if std::mem::take(&mut self.vanished) {
            tracing::info!("the models' folder can be read again");
        }
        let gone: Vec<PathBuf> = self.files.keys().filter(|p| !found.contains_key(*p)).cloned().collect();
        for path in gone {
            self.gone(&path);
        }
        for (path, state) in found {
            match self.files.get_mut(&path) {
                Some(seen) if seen.state == state && seen.done => {}
                Some(seen) if seen.state == state => {
                    seen.done = true;
                    self.load(&path);
                }
                Some(seen) => (seen.state, seen.done) = (state, false),
                None => {
                    self.files.insert(path, Seen { state, done: false, in_service: None });
                }
            }
        }
    }

    fn gone(&mut self, path: &Path) {
        self.problems.set(path, None);
        let Some(name) = self.files.remove(path).and_then(|seen| seen.in_service) else { return };
        self.registry.remove(&name);
        self.metrics.load("removed");
        tracing::info!(model = name, "model removed: its file is gone");
    }

    fn load(&mut self, path: &Path) {
        match self.try_load(path) {
            Ok(name) => {
                self.problems.set(path, None);
                if let Some(seen) = self.files.get_mut(path) {
                    seen.in_service = Some(name);
                }
            }
            Err(e) => {
                let old = self.files.get(path).is_some_and(|seen| seen.in_service.is_some());
                self.metrics.load("refused");
                self.problems.set(path, Some(chain(&e)));
                let what = if old { "; the old one stays in service" } else { "" };
                tracing::error!(error = chain(&e), "a model file was refused{what}");
            }
        }
    }

    fn try_load(&self, path: &Path) -> Result<String> {
        let judge = Judge::load(path)?;
        let name = judge.name.clone();
        match self.registry.get(&name) {
            Some(old) if old.path != judge.path => {
                return Err(Error::caller(format!(
                    "model file `{}`: a model `{name}` is in service already, from `{}`",
                    path.display(),
                    old.path.display()
                )));
            }
            // As after a recalibration, which puts the model that it wrote into service itself.
            Some(old) if old.digest == judge.digest => return Ok(name),
            Some(_) => tracing::info!(model = name, digest = judge.digest, "model replaced"),
            None => tracing::info!(model = name, digest = judge.digest, "model in service"),
        }
        self.registry.put(judge);
        self.metrics.load("loaded");
        Ok(name)
    }
}

/// The model files of a folder. What is hidden or has another ending (kept models, files on their way) is none.
fn list(path: &Path) -> Result<BTreeMap<PathBuf, State>> {
    let unreadable = |e| Error::io("cannot read models' folder", path, e);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let file = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || file.extension().is_none_or(|e| e != EXTENSION) {
            continue;
        }
        // One that went between the two calls is not there.
        let Ok(about) = std::fs::metadata(&file) else { continue };
        if about.is_file() {
            found.insert(file, State { size: about.len(), modified: about.modified().ok() });
        }
    }
    Ok(found)
}
