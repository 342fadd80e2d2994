//! Work on many items side by side, its results in order, and few of them at a time.
//!
//! Reading a picture, the network on the one before and whatever becomes of the results run beside each other: a thread that is
//! done takes the next item, and nobody waits for a whole group. Memory stays flat, since no thread runs further ahead of the
//! caller than a few items.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use rayon::prelude::*;

use crate::Result;

/// Items that may be begun before an earlier one is handed on, for each thread.
const AHEAD: usize = 2;

/// Does `work` on every item, on the threads of the current rayon pool with a scratch of `init` each, and hands the results to
/// `each` on the calling thread, in the order of the items. `each` says whether to go on; it may use the pool itself: no thread of
/// the pool ever waits, an item is only given to it once there is room for its result.
///
/// # Errors
/// The first error of `each`; what is not begun by then never is.
pub fn in_order<T: Sync, S: Send, R: Send>(
    items: &[T],
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
    mut each: impl FnMut(&T, R) -> Result<bool>,
) -> Result<()> {
    // A thread of the pool that waited for the others would keep them from running: group by group instead.
    if rayon::current_thread_index().is_some() {
        for group in items.chunks(AHEAD * rayon::current_num_threads()) {
            let results: Vec<R> = group.par_iter().with_max_len(1).map_init(&init, &work).collect();
            for (item, result) in group.iter().zip(results) {
                if !each(item, result)? {
                    return Ok(());
                }
            }
        }
        return Ok(());
    }
    let room = AHEAD * rayon::current_num_threads();
    let (scratches, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let one = |item: &T| {
        let taken = scratches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = taken.unwrap_or_else(&init);
        let result = work(&mut scratch, item);
        scratches.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    };
    let (one, stop) = (&one, &stop);
    rayon::in_place_scope(|scope| {
        let (sender, results) = mpsc::channel();
        let begin = |i: usize| {
            let sender = sender.clone();
            scope.spawn(move |_| {
                if !stop.load(Ordering::Relaxed) {
                    // Nobody listens any more where the caller has stopped.
                    let _ = sender.send((i, catch_unwind(AssertUnwindSafe(|| one(&items[i])))));
                }
            });
        };
        (0..room.min(items.len())).for_each(&begin);
        let (mut early, mut handed) = (BTreeMap::new(), 0);
        while handed < items.len() {
            let (i, result) = results.recv().expect("the caller holds a sender");
            early.insert(i, result);
            while let Some(result) = early.remove(&handed) {
                let go_on = match result {
                    Ok(result) => each(&items[handed], result),
                    Err(panic) => {
                        stop.store(true, Ordering::Relaxed);
                        resume_unwind(panic);
                    }
                };
                if !matches!(go_on, Ok(true)) {
                    stop.store(true, Ordering::Relaxed);
                    return go_on.map(|_| ());
                }
                if handed + room < items.len() {
                    begin(handed + room);
                }
                handed += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Error;

    #[test]
    fn results_come_in_order_and_nobody_runs_far_ahead() {
        let items: Vec<usize> = (0..300).collect();
        let (begun, handed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let most = AHEAD * rayon::current_num_threads();
        let mut found = Vec::new();
        let work = |scratch: &mut usize, &i: &usize| {
            let ahead = begun.fetch_add(1, Ordering::SeqCst) + 1 - handed.load(Ordering::SeqCst);
            assert!(ahead <= most + 1, "{ahead} items at a time");
            *scratch += 1;
            // Uneven work.
            (0..(i * 7919) % 1000).fold(i, |a, b| std::hint::black_box(a ^ b ^ b))
        };
        in_order(
            &items,
            || 0usize,
            work,
            |&i, r| {
                handed.fetch_add(1, Ordering::SeqCst);
                found.push((i, r));
                Ok(true)
            },
        )
        .unwrap();
        assert_eq!(found, items.iter().map(|&i| (i, i)).collect::<Vec<_>>());
        in_order(&Vec::<usize>::new(), || (), |(), _| (), |_, ()| panic!("there is nothing")).unwrap();
    }

    #[test]
    fn it_ends_early_by_an_answer_an_error_and_from_within_the_pool() {
        let items: Vec<usize> = (0..1000).collect();
        let count = |answer: &dyn Fn(usize) -> Result<bool>| {
            let begun = AtomicUsize::new(0);
            let work = |(): &mut (), _: &usize| begun.fetch_add(1, Ordering::SeqCst);
            let result = in_order(&items, || (), work, |&i, _| answer(i));
            (result.is_ok(), begun.into_inner())
        };
        let (ok, begun) = count(&|i| Ok(i < 9));
        assert!(ok && begun < 1000, "{begun}");
        let (ok, begun) = count(&|i| if i < 9 { Ok(true) } else { Err(Error::input("enough")) });
        assert!(!ok && begun < 1000, "{begun}");
        let inside = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(inside.install(|| count(&|_| Ok(true))), (true, 1000));
    }

    #[test]
    fn the_caller_may_use_the_pool() {
        use rayon::prelude::*;
        let items: Vec<u64> = (0..50).collect();
        let mut sum = 0;
        let each = |_: &u64, n: u64| {
            sum += (0..10_000u64).into_par_iter().map(|i| i % (n + 2)).sum::<u64>();
            Ok(true)
        };
        in_order(&items, || (), |(), &i| i, each).unwrap();
        assert_eq!(sum, items.iter().map(|n| (0..10_000).map(|i| i % (n + 2)).sum::<u64>()).sum::<u64>());
    }

    #[test]
    fn a_panic_of_the_work_reaches_the_caller() {
        let items: Vec<usize> = (0..100).collect();
        let work = |(): &mut (), &i: &usize| assert_ne!(i, 20, "a bug");
        let run = || in_order(&items, || (), work, |_, ()| Ok(true));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
