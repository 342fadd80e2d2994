//! Memory of a thread: kept, so that no step pays for fresh memory.

use std::cell::Cell;

use crate::kernel::Aligned;

thread_local! {
    static SCRATCH: Cell<Aligned> = Cell::new(Aligned::default());
}

/// Calls `work` with `len` values of this thread's scratch, whatever they hold.
pub(super) fn with_scratch(len: usize, work: impl FnOnce(&mut [f32])) {
    let mut scratch = SCRATCH.take();
    scratch.grow(len);
    work(&mut scratch.as_mut_slice()[..len]);
    SCRATCH.set(scratch);
}
