//! A model over HTTP: the Open Inference Protocol v2 (`oip`), and a simple way beside it (`predict`).
//!
//! Request -> [`http`] (who may ask, limits) -> a route -> `queue` -> `work` (decode, judge, record) -> answer. Models come from files and
//! from a watched folder ([`folder`]) and are exchanged while requests run (`registry`).

pub mod folder;
pub mod http;
mod limits;
mod log;
mod metrics;
mod oip;
mod openapi;
mod predict;
mod queue;
mod refusal;
mod registry;
mod routes;
mod run;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use pbas::Result;
use tokio::sync::Semaphore;

pub use folder::Problems;
pub use limits::Limits;
pub use log::{Format, init as init_log};
pub use metrics::Metrics;
pub use refusal::Refusal;
pub use registry::Registry;
pub use routes::router;
pub use run::{Options, run};
pub use work::{Answer, Picture, Wanted};

use crate::hub::Hub;
use crate::judge::Judge;
use queue::{Load, Queue};
use work::{Desk, Job};

/// Unit of the memory for bodies.
pub(crate) const KIB: usize = 1 << 10;

/// What every request is answered with: models, queue, record, figures. Clones are the same.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    registry: Registry,
    problems: Problems,
    queue: Queue<Job, Answer>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    hub: Hub,
    metrics: Metrics,
    limits: Limits,
    stopping: AtomicBool,
    /// Memory for bodies, in KiB.
    bodies: Arc<Semaphore>,
    /// Places for work on large requests and answers (parsing, writing), which is not for the threads that talk to clients.
    desks: Semaphore,
}

impl State {
    /// Models, and threads that judge for them, one for each thread of the rayon pool.
    ///
    /// # Errors
    /// The operating system gives no threads.
    pub fn new(models: Vec<Judge>, hub: Hub, limits: Limits) -> Result<Self> {
        let metrics = Metrics::default();
        let registry = Registry::new(metrics.clone());
        models.into_iter().for_each(|model| registry.put(model));
        let desk = Desk { hub: hub.clone(), metrics: metrics.clone(), pixels: limits.pixels };
        let workers = rayon::current_num_threads();
        let work = Arc::new(move |job: &Job, scratch: &mut _, threads| desk.judge(job, scratch, threads));
        let (queue, threads) = Queue::start(limits.queue, workers, work)?;
        Ok(Self(Arc::new(Shared {
            registry,
            problems: Problems::default(),
            queue,
            workers: Mutex::new(threads),
            hub,
            metrics,
            bodies: Arc::new(Semaphore::new(limits.bodies / KIB)),
            limits,
            stopping: AtomicBool::new(false),
            desks: Semaphore::new(workers),
        })))
    }

    /// The models in service.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Model files that could not be put into service.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.0.problems
    }

    /// The record and its news.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Whether new work is taken: there is a model, and nobody has told the server to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_stopping() && !self.registry().all().is_empty()
    }

    fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    fn load(&self) -> Load {
        self.0.queue.load()
    }

    /// Takes no more work from now on, and waits until what was taken is judged, for at most [`Limits::grace`].
    pub async fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        let end = Instant::now() + self.limits().grace;
        loop {
            let load = self.load();
            if load.waiting + load.busy == 0 || Instant::now() > end {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.0.queue.close();
    }

    /// Waits for the threads that judge. After [`State::stop`].
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.0.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread that judges ended by a fault of the program");
            }
        }
    }

    /// The model of a name.
    fn model(&self, name: &str) -> std::result::Result<Arc<Judge>, Refusal> {
        self.registry().get(name).ok_or_else(|| {
            let names: Vec<String> = self.registry().all().iter().map(|j| j.name.clone()).collect();
            Refusal::not_found(format!("there is no model `{name}`")).with_hint(format!(
                "models in service: {}",
                if names.is_empty() { "none".into() } else { names.join(", ") }
            ))
        })
    }

    /// Puts pictures into the queue, all or none, and waits for their verdicts. Dropping the future takes out those whose turn has not come.
    async fn judge(
        &self,
        jobs: Vec<Job>,
        deadline: Instant,
    ) -> std::result::Result<Vec<std::result::Result<Answer, Refusal>>, Refusal> {
        if self.is_stopping() {
            return Err(Refusal::stopping());
        }
        let tickets = self.0.queue.submit(jobs, deadline)?;
        let mut answers = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            answers.push(ticket.answer().await);
        }
        Ok(answers)
    }
}

/// Judges a picture file's bytes by a model in service, through the queue, and records the verdict.
///
/// # Errors
/// No such model, too much work, or a picture that cannot be judged.
pub async fn judge_now(
    state: &State,
    model: &str,
    name: &str,
    bytes: Bytes,
    wanted: Wanted,
) -> std::result::Result<Answer, Refusal> {
    let arrived = Instant::now();
    let judge = state.model(model)?;
    let job =
        Job { judge, picture: Picture::Encoded(bytes), name: name.to_owned(), wanted, arrived, held: None };
    let answers = state.judge(vec![job], arrived + state.limits().deadline).await?;
    answers.into_iter().next().unwrap_or_else(|| Err(Refusal::internal("a picture has no verdict")))
}
