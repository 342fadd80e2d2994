//! A bounded queue of pictures (jobs `J`, answered by `A`) and the few threads that judge them.
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

/// Weight of the latest picture in the mean time of a judgement.
const LATEST: f64 = 0.2;

/// What becomes of a picture.
pub type Outcome<A> = std::result::Result<A, Refusal>;

/// What a worker does with a job.
pub type Work<J, A> = dyn Fn(&J, &mut Scratch, Threads) -> Outcome<A> + Send + Sync;

/// The queue. Clones are the same queue.
pub struct Queue<J, A>(Arc<Shared<J, A>>);

impl<J, A> Clone for Queue<J, A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<J, A> {
    state: Mutex<State<J, A>>,
    wake: Condvar,
    capacity: usize,
    workers: usize,
}

struct State<J, A> {
    waiting: VecDeque<Waiting<J, A>>,
    /// Pictures that are being judged.
    busy: usize,
    closed: bool,
    next: u64,
    /// Time that a picture keeps one core, smoothed; 0 before the first.
    cost: f64,
}

struct Waiting<J, A> {
    id: u64,
    job: J,
    deadline: Instant,
    reply: oneshot::Sender<Outcome<A>>,
}

/// A picture's place in the queue. Dropped, the picture is taken out: nobody wants its verdict any more.
pub struct Ticket<J, A> {
    id: u64,
    deadline: Instant,
    queue: Queue<J, A>,
    reply: oneshot::Receiver<Outcome<A>>,
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

impl<J: Send + 'static, A: Send + 'static> Queue<J, A> {
    /// A queue of at most `capacity` pictures, and `workers` threads that do `work` on them until [`Queue::close`].
    ///
    /// # Errors
    /// The operating system gives no threads.
    pub fn start(
        capacity: usize,
        workers: usize,
        work: Arc<Work<J, A>>,
    ) -> Result<(Self, Vec<JoinHandle<()>>)> {
        let state = State { waiting: VecDeque::new(), busy: 0, closed: false, next: 0, cost: 0.0 };
        let shared = Shared { state: Mutex::new(state), wake: Condvar::new(), capacity, workers };
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
    pub fn submit(&self, jobs: Vec<J>, deadline: Instant) -> std::result::Result<Vec<Ticket<J, A>>, Refusal> {
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

    /// A worker's life.
    fn run(&self, work: &Work<J, A>) {
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

impl<J, A> Queue<J, A> {
    fn lock(&self) -> MutexGuard<'_, State<J, A>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue's figures.
    pub fn load(&self) -> Load {
        let state = self.lock();
        let (waiting, busy, workers) = (state.waiting.len(), state.busy, self.0.workers);
        Load { waiting, busy, workers, delay: state.delay(workers) }
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
}

impl<J, A> State<J, A> {
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

impl<J, A> Ticket<J, A> {
    /// Waits for the verdict. A picture whose turn has come is always waited for; one whose turn has not come by its deadline is taken out.
    ///
    /// # Errors
    /// The deadline has passed, or the judgement failed.
    pub async fn answer(mut self) -> Outcome<A> {
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

impl<J, A> Drop for Ticket<J, A> {
    fn drop(&mut self) {
        self.queue.take_out(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    type Named = Queue<&'static str, (String, Threads)>;

    /// A queue whose pictures are judged one by one as the test says so; the second channel tells which has begun.
    fn gated(capacity: usize, workers: usize) -> (Named, Vec<JoinHandle<()>>, Sender<()>, Receiver<String>) {
        let (gate, open) = channel::<()>();
        let (begin, begun) = channel();
        let open = Mutex::new(open);
        let work = move |job: &&'static str, _: &mut Scratch, threads| {
            // A test that has seen enough ends while pictures wait.
            let told = begin.send((*job).to_owned()).is_ok();
            if !told || open.lock().unwrap().recv().is_err() {
                return Err(Refusal::stopping());
            }
            assert!(*job != "panic", "asked for");
            Ok(((*job).to_owned(), threads))
        };
        let (queue, threads) = Queue::start(capacity, workers, Arc::new(work)).unwrap();
        (queue, threads, gate, begun)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn answer(ticket: Ticket<&'static str, (String, Threads)>) -> Outcome<(String, Threads)> {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(ticket.answer())
    }

    fn one(queue: &Named, name: &'static str) -> Ticket<&'static str, (String, Threads)> {
        queue.submit(vec![name], later()).unwrap().pop().unwrap()
    }

    #[test]
    fn more_than_may_wait_is_refused_and_nothing_is_lost() {
        let (queue, threads, gate, begun) = gated(2, 1);
        let first = one(&queue, "first");
        begun.recv().unwrap();
        let rest = queue.submit(vec!["second", "third"], later()).unwrap();
        let full = queue.submit(vec!["fourth"], later()).err().unwrap();
        assert_eq!((full.kind, full.retry_after), ("busy", Some(1)));
        assert_eq!((queue.load().waiting, queue.load().busy), (2, 1));
        (0..3).for_each(|_| gate.send(()).unwrap());
        for (ticket, name) in [first].into_iter().chain(rest).zip(["first", "second", "third"]) {
            assert_eq!(answer(ticket).unwrap().0, name);
        }
        queue.close();
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    #[test]
    fn pictures_of_one_request_are_taken_all_or_none() {
        let (queue, _threads, _gate, begun) = gated(2, 1);
        let _first = one(&queue, "first");
        begun.recv().unwrap();
        let _second = one(&queue, "second");
        assert_eq!(queue.submit(vec!["third", "fourth"], later()).err().unwrap().kind, "busy");
        assert_eq!(queue.load().waiting, 1);
    }

    #[test]
    fn work_of_a_client_that_left_is_dropped() {
        let (queue, _threads, gate, begun) = gated(8, 1);
        let first = one(&queue, "first");
        begun.recv().unwrap();
        drop(one(&queue, "left"));
        assert_eq!(queue.load().waiting, 0);
        let last = one(&queue, "last");
        (0..2).for_each(|_| gate.send(()).unwrap());
        assert_eq!((answer(first).unwrap().0, answer(last).unwrap().0), ("first".into(), "last".into()));
        assert_eq!(begun.recv().unwrap(), "last");
    }

    #[test]
    fn a_turn_that_comes_too_late_is_refused_and_one_that_came_is_waited_for() {
        let (queue, _threads, gate, begun) = gated(8, 1);
        let soon = Instant::now() + Duration::from_millis(1);
        let first = queue.submit(vec!["first"], later()).unwrap().pop().unwrap();
        begun.recv().unwrap();
        let late = queue.submit(vec!["late"], soon).unwrap().pop().unwrap();
        assert_eq!(answer(late).unwrap_err().kind, "deadline");
        assert_eq!(queue.load().waiting, 0);
        gate.send(()).unwrap();
        assert_eq!(answer(first).unwrap().0, "first");
    }

    #[test]
    fn alone_on_all_cores_beside_others_on_one() {
        let (queue, _threads, gate, begun) = gated(8, 2);
        let alone = one(&queue, "alone");
        begun.recv().unwrap();
        let beside = one(&queue, "beside");
        begun.recv().unwrap();
        (0..2).for_each(|_| gate.send(()).unwrap());
        assert_eq!((answer(alone).unwrap().1, answer(beside).unwrap().1), (Threads::All, Threads::One));
    }

    #[test]
    fn a_panic_is_one_refusal() {
        let (queue, _threads, gate, _begun) = gated(8, 1);
        (0..2).for_each(|_| gate.send(()).unwrap());
        assert_eq!(answer(one(&queue, "panic")).unwrap_err().status.as_u16(), 500);
        assert_eq!(answer(one(&queue, "next")).unwrap().0, "next");
        assert_eq!(queue.load().busy, 0);
    }

    #[test]
    fn what_was_taken_is_judged_after_the_close() {
        let (queue, threads, gate, begun) = gated(8, 1);
        let tickets = queue.submit(vec!["first", "second"], later()).unwrap();
        begun.recv().unwrap();
        queue.close();
        assert_eq!(queue.submit(vec!["third"], later()).err().unwrap().kind, "stopping");
        (0..2).for_each(|_| gate.send(()).unwrap());
        for ticket in tickets {
            assert!(answer(ticket).is_ok());
        }
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    #[test]
    fn the_wait_is_foreseen() {
        let mut state: State<(), ()> =
            State { waiting: VecDeque::new(), busy: 2, closed: false, next: 0, cost: 1.0 };
        assert!((state.delay(2) - 0.5).abs() < 1e-9);
        let soon = Instant::now() + Duration::from_millis(100);
        let refusal = state.room(1, soon, 8, 2).unwrap_err();
        assert!(refusal.message.contains("0.5 s"), "{refusal:?}");
        state.busy = 1;
        assert!(state.room(1, soon, 8, 2).is_ok());
    }
}
