//! A bounded queue of pictures and the few threads that judge them.
//!
//! Judging takes whole cores for a tenth of a second, so it runs on threads of its own, one a core, and never on those that talk to clients.
//! What is taken side by side is what already waits: no picture is held back for others to come.
//!
//! A picture of its own on an idle server is judged on all cores ([`Threads::All`]); as soon as others wait or are judged, each has one core
//! ([`Threads::One`]). The first is the quickest answer (on two cores about 0.6 of the time), the second the most pictures a second, since
//! pictures side by side never wait for each other within a layer. Neither changes the answer.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pbas::detector::Scratch;
use pbas::{Error, ErrorKind, Result, Threads};
use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::work::{Answer, Job};

/// Weight of the latest picture in the mean time of a judgement.
const LATEST: f64 = 0.2;

/// What becomes of a picture.
pub type Outcome = std::result::Result<Answer, Refusal>;

/// What a worker does with a job.
pub type Work = dyn Fn(&Job, &mut Scratch, Threads) -> Outcome + Send + Sync;

/// The queue. Clones are the same queue.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    capacity: usize,
    workers: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Pictures that are being judged.
    busy: usize,
    closed: bool,
    next: u64,
    /// Time that a picture keeps one core, smoothed; 0 before the first.
    cost: f64,
}

struct Waiting {
    id: u64,
    job: Job,
    deadline: Instant,
    reply: oneshot::Sender<Outcome>,
}

/// A picture's place in the queue. Dropped, the picture is taken out: nobody wants its verdict any more.
pub struct Ticket {
    id: u64,
    deadline: Instant,
    queue: Queue,
    reply: oneshot::Receiver<Outcome>,
}

/// Figures of the queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Pictures that wait.
    pub waiting: usize,
    /// Pictures that are being judged.
    pub busy: usize,
    /// Threads that judge.
    pub workers: usize,
    /// Seconds until a picture that comes now would have its turn, as far as is known.
    pub delay: f64,
}

impl Queue {
    /// A queue of at most `capacity` pictures, and `workers` threads that do `work` on them until [`Queue::close`].
    ///
    /// # Errors
    /// The operating system gives no threads.
    pub fn start(capacity: usize, workers: usize, work: Arc<Work>) -> Result<(Self, Vec<JoinHandle<()>>)> {
        let shared = Shared { state: Mutex::default(), wake: Condvar::new(), capacity, workers };
        let queue = Self(Arc::new(shared));
        let start = |i: usize| {
            let (queue, work) = (queue.clone(), Arc::clone(&work));
            let named = std::thread::Builder::new().name(format!("judge-{i}"));
            named
                .spawn(move || queue.run(&*work))
                .map_err(|e| Error::new(ErrorKind::Io, "cannot start threads").with_source(e))
        };
        let threads = (0..workers).map(start).collect::<Result<_>>()?;
        Ok((queue, threads))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue's figures.
    pub fn load(&self) -> Load {
        let state = self.lock();
        let (waiting, busy, workers) = (state.waiting.len(), state.busy, self.0.workers);
        Load { waiting, busy, workers, delay: state.delay(workers) }
    }

    /// Whether `count` more pictures could be judged before `deadline`; asked before a body is read, so that a refusal costs nothing.
    ///
    /// # Errors
    /// They could not, with the time after which it is worth to ask again.
    pub fn room(&self, count: usize, deadline: Instant) -> std::result::Result<(), Refusal> {
        self.lock().room(count, deadline, self.0.capacity, self.0.workers)
    }

    /// Takes pictures, all or none.
    ///
    /// # Errors
    /// As [`Queue::room`].
    pub fn submit(&self, jobs: Vec<Job>, deadline: Instant) -> std::result::Result<Vec<Ticket>, Refusal> {
        let mut state = self.lock();
        state.room(jobs.len(), deadline, self.0.capacity, self.0.workers)?;
        let mut tickets = Vec::with_capacity(jobs.len());
        for job in jobs {
            let id = state.next;
            state.next += 1;
            let (reply, receiver) = oneshot::channel();
            state.waiting.push_back(Waiting { id, job, deadline, reply });
            tickets.push(Ticket { id, deadline, queue: self.clone(), reply: receiver });
            self.0.wake.notify_one();
        }
        Ok(tickets)
    }

    /// Takes no more; what waits is still judged, then the threads end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.wake.notify_all();
    }

    /// Takes a picture out; `false` where it has had its turn.
    fn take_out(&self, id: u64) -> bool {
        let mut state = self.lock();
        let found = state.waiting.iter().position(|w| w.id == id);
        // Freed after the lock is: a body may be large.
        let taken = found.and_then(|i| state.waiting.remove(i));
        drop(state);
        taken.is_some()
    }

    /// A worker's life.
    fn run(&self, work: &Work) {
        let mut scratch = Scratch::default();
        loop {
            let (next, threads) = {
                let mut state = self.lock();
                let next = loop {
                    if let Some(next) = state.waiting.pop_front() {
                        break next;
                    }
                    if state.closed {
                        return;
                    }
                    state = self.0.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                };
                let alone = state.busy == 0 && state.waiting.is_empty();
                state.busy += 1;
                (next, if alone { Threads::All } else { Threads::One })
            };
            let Waiting { job, deadline, reply, .. } = next;
            let begun = Instant::now();
            let outcome = if reply.is_closed() {
                None
            } else if begun > deadline {
                Some(Err(Refusal::deadline(self.load().delay)))
            } else {
                Some(catch_unwind(AssertUnwindSafe(|| work(&job, &mut scratch, threads))).unwrap_or_else(
                    |_| {
                        // The panic itself is on stderr. Buffers may be half written.
                        scratch = Scratch::default();
                        Err(Refusal::internal("the judgement failed by a fault of the program"))
                    },
                ))
            };
            // A body is freed before its answer is given.
            drop(job);
            let cores = if threads == Threads::All { self.0.workers } else { 1 };
            let cost = begun.elapsed().as_secs_f64() * cores as f64;
            let mut state = self.lock();
            state.busy -= 1;
            if matches!(outcome, Some(Ok(_))) {
                state.cost = if state.cost == 0.0 { cost } else { state.cost + LATEST * (cost - state.cost) };
            }
            drop(state);
            if let Some(outcome) = outcome {
                // Whoever asked may have left meanwhile.
                let _ = reply.send(outcome);
            }
        }
    }
}

impl State {
    /// Seconds until a picture that comes now has its turn.
    fn delay(&self, workers: usize) -> f64 {
        if self.busy < workers && self.waiting.is_empty() {
            return 0.0;
        }
        // Those that are being judged are half done on average.
        (self.waiting.len() as f64 + 0.5 * self.busy as f64) * self.cost / workers as f64
    }

    fn room(
        &self,
        count: usize,
        deadline: Instant,
        capacity: usize,
        workers: usize,
    ) -> std::result::Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::stopping());
        }
        let delay = self.delay(workers);
        if self.waiting.len() + count > capacity {
            return Err(Refusal::busy(format!("{capacity} pictures wait already"), delay));
        }
        let last = delay + (count - 1) as f64 * self.cost / workers as f64;
        if last > deadline.saturating_duration_since(Instant::now()).as_secs_f64() {
            let message = format!("the picture's turn would come in {last:.1} s, after its deadline");
            return Err(Refusal::busy(message, delay));
        }
        Ok(())
    }
}

impl Ticket {
    /// Waits for the verdict. A picture whose turn has come is always waited for; one whose turn has not come by its deadline is taken out.
    ///
    /// # Errors
    /// The deadline has passed, or the judgement failed.
    pub async fn answer(mut self) -> Outcome {
        let lost = || Err(Refusal::internal("the judgement failed by a fault of the program"));
        let late = tokio::time::sleep_until(self.deadline.into());
        tokio::select! {
            outcome = &mut self.reply => return outcome.unwrap_or_else(|_| lost()),
            () = late => {}
        }
        if self.queue.take_out(self.id) {
            return Err(Refusal::deadline(self.queue.load().delay.max(Duration::from_secs(1).as_secs_f64())));
        }
        (&mut self.reply).await.unwrap_or_else(|_| lost())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.take_out(self.id);
    }
}
