//! The server from its start to its end.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use pbas::error::chain;
use pbas::{Error, ErrorKind, Result};

use super::folder::Folder;
use super::http::{ListenOptions, Listener, Observer, Seen};
use super::{State, router};
use crate::hub::Hub;
use crate::judge::Judge;
use crate::record::Record;
use crate::record::retain::{EVERY, Retention};

/// Threads that talk to clients. Judging has its own.
const TALKERS: usize = 2;
/// Time between two looks for the wish to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What to serve, and where.
pub struct Options {
    /// Model files.
    pub models: Vec<PathBuf>,
    /// A folder of model files that is watched.
    pub folder: Option<PathBuf>,
    /// Where verdicts go.
    pub hub: Hub,
    /// What the record may hold; looked at now and then.
    pub retention: Retention,
    /// Where and how to listen; its observer is replaced by the server's own.
    pub listen: ListenOptions,
}

/// Serves until `stop` says so, then finishes what was accepted. `ready` is told the server's URL once it listens.
///
/// # Errors
/// A model that cannot be loaded, two models of one name, no model at all, an address that cannot be listened on.
pub fn run(options: Options, ready: impl FnOnce(&str), stop: impl Fn() -> bool) -> Result<()> {
    let Options { models, folder, hub, retention, mut listen } = options;
    let models = load(&models)?;
    let has_models = !models.is_empty();
    let state = State::new(models, hub, listen.limits.clone())?;
    let ended = Arc::new(AtomicBool::new(false));
    let watcher = match folder {
        Some(path) => {
            let (registry, metrics) = (state.registry().clone(), state.metrics().clone());
            let mut folder = Folder::new(&path, registry, metrics, state.problems().clone())?;
            folder.take_all();
            let ended = Arc::clone(&ended);
            let named = std::thread::Builder::new().name("models".to_owned());
            Some(named.spawn(move || folder.watch(&ended)).map_err(threads)?)
        }
        None if !has_models => {
            return Err(Error::caller("expected a model, found none")
                .with_hint("name a model file, or a folder with `--models`"));
        }
        None => None,
    };
    let (retain, retained) = mpsc::channel::<()>();
    let record = state.hub().record().clone();
    let keeper = std::thread::Builder::new().name("retention".to_owned());
    let keeper = keeper.spawn(move || keep(&record, &retention, &retained)).map_err(threads)?;
    let metrics = state.metrics().clone();
    let observer: Observer = Arc::new(move |seen: &Seen| {
        metrics.request(&seen.route, seen.status, seen.seconds);
        if let Some(kind) = seen.kind {
            metrics.error(kind);
        }
    });
    listen.observer = Some(observer);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(TALKERS)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(threads)?;
    let served = runtime.block_on(async {
        let listener = Listener::bind(listen).await?;
        ready(&listener.url());
        let shutdown = async {
            while !stop() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            tracing::info!("stopping: accepted work is finished");
            state.stop().await;
        };
        listener.run(router(&state), shutdown).await;
        Ok(())
    });
    ended.store(true, Ordering::Relaxed);
    if served.is_ok() {
        state.join();
        tracing::info!("stopped");
    }
    drop(retain);
    if watcher.is_some_and(|w| w.join().is_err()) || keeper.join().is_err() {
        tracing::error!("a thread that looks after models or record ended by a fault of the program");
    }
    served
}

/// Keeps the record within its limits until nobody holds the other end. What goes wrong is logged and tried again.
fn keep(record: &Record, retention: &Retention, ended: &mpsc::Receiver<()>) {
    if *retention == Retention::default() {
        return;
    }
    let mut told = false;
    loop {
        match record.retain(retention, Timestamp::now()) {
            Ok(done) if done.over && !told => {
                tracing::warn!("{}", done.over_text());
                told = true;
            }
            Ok(done) => told &= done.over,
            Err(e) => tracing::error!(error = chain(&e), "the record could not be kept within its limits"),
        }
        if ended.recv_timeout(EVERY) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn load(paths: &[PathBuf]) -> Result<Vec<Judge>> {
    let mut models: Vec<Judge> = Vec::new();
    for path in paths {
        let model = Judge::load(path)?;
        if let Some(other) = models.iter().find(|m| m.name == model.name) {
            return Err(Error::caller(format!(
                "models `{}` and `{}` have the same name: expected names that differ",
                other.path.display(),
                path.display()
            ))
            .with_hint("a model's name is its file's, without `.pbas`; rename one"));
        }
        tracing::info!(model = model.name, digest = model.digest, "model in service");
        models.push(model);
    }
    Ok(models)
}

fn threads(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot start threads").with_source(e)
}
