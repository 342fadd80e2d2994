//! Float32 values that begin on a cache line and lie side by side in large pages.
//!
//! Packed weights are made at every start of the program. In pages of 4 KiB the faults of their first touch take longer than
//! the packing; so they come out of large regions for which the system is asked for pages of 2 MiB. Regions are given back
//! when the last of their values goes.

use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapMut;

/// Values of a cache line.
const LINE: usize = 16;
const LINE_BYTES: usize = LINE * size_of::<f32>();
/// A large page.
const PAGE: usize = 2 << 20;
/// Bytes of a region, beside what is needed to begin it on a large page. Only touched pages take memory.
const REGION: usize = 4 * PAGE;
/// Shorter rows than this are common and not worth a place in a region.
const SMALL: usize = 4096;

/// Float32 values that begin on a cache line.
#[derive(Debug)]
pub(crate) struct Aligned {
    values: Values,
    len: usize,
}

#[derive(Debug)]
enum Values {
    Lines(Vec<Line>),
    /// Values of a region from a byte on, which nobody else reads or writes.
    Region(Arc<Region>, usize),
}

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Memory that is cut into rows of values, each given out once.
#[derive(Debug)]
struct Region {
    start: *mut u8,
    /// Keeps the memory.
    _map: MmapMut,
}

// SAFETY: The memory belongs to the map, which can be sent and shared; through `start` are reached only rows that `take` gave
// out once, each to one `Aligned` that is never cloned with its row, so that the borrow rules of the `Aligned` are those of the row.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// The region that rows are taken from at present, and the bytes of it that are taken.
static CURRENT: Mutex<Option<(std::sync::Weak<Region>, usize)>> = Mutex::new(None);

/// The first byte of `bytes` zeros that nobody else has; `None` where the system gives no memory this way.
fn take(bytes: usize) -> Option<(Arc<Region>, usize)> {
    let bytes = bytes.next_multiple_of(LINE_BYTES);
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((region, taken)) = &mut *current
        && let Some(region) = region.upgrade()
        && bytes <= REGION - *taken
    {
        let at = *taken;
        *taken += bytes;
        return Some((region, at));
    }
    let size = REGION.max(bytes.next_multiple_of(PAGE));
    let mut map = MmapMut::map_anon(size + PAGE).ok()?;
    #[cfg(target_os = "linux")]
    {
        // A wish: where there are no large pages, small ones do.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    let skip = map.as_ptr().align_offset(PAGE).min(PAGE);
    let start = map[skip..].as_mut_ptr();
    let region = Arc::new(Region { start, _map: map });
    // What is larger than a region fills one of its own; the rest of the current one stays in use.
    if bytes <= REGION {
        *current = Some((Arc::downgrade(&region), bytes));
    }
    Some((region, 0))
}

impl Aligned {
    /// At least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let lines = len.div_ceil(LINE);
        let large = if lines * LINE < SMALL { None } else { take(lines * LINE_BYTES) };
        let values = match large {
            Some((region, at)) => Values::Region(region, at),
            None => Values::Lines(vec![Line([0.0; LINE]); lines]),
        };
        Self { values, len: lines * LINE }
    }

    /// Makes room for at least `len` values. What was held is of no use then: it is not copied.
    pub(crate) fn grow(&mut self, len: usize) {
        if self.len < len {
            *self = Self::default();
            *self = Self::zeros(len);
        }
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes a value.
    ///
    /// # Panics
    /// If there is no value `i`.
    pub(crate) fn set(&mut self, i: usize, v: f32) {
        self.as_mut_slice()[i] = v;
    }

    /// All values, to write to.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        let start = match &mut self.values {
            Values::Lines(lines) => lines.as_mut_ptr().cast(),
            // SAFETY: the row lies inside its region (`take`).
            Values::Region(region, at) => unsafe { region.start.add(*at) }.cast::<f32>(),
        };
        // SAFETY: `start` begins `len` values, zero or written, that belong to `self` alone, which is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }

    /// All values.
    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: `as_ptr` begins `len` values, zero or written, that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        match &self.values {
            Values::Lines(lines) => lines.as_ptr().cast(),
            // SAFETY: the row lies inside its region (`take`).
            Values::Region(region, at) => unsafe { region.start.add(*at) }.cast_const().cast(),
        }
    }
}

impl Default for Aligned {
    fn default() -> Self {
        Self { values: Values::Lines(Vec::new()), len: 0 }
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_zero_aligned_and_each_their_own() {
        // Small ones, many of a region, and one that is larger than a region.
        let lengths =
            [0, 1, 16, SMALL - 1, SMALL, 100_001, 700_000, REGION / 4 + 5, 300_000, 900_000, 900_000];
        let mut rows: Vec<Aligned> = lengths.iter().map(|&n| Aligned::zeros(n)).collect();
        for (i, (row, &n)) in rows.iter_mut().zip(&lengths).enumerate() {
            assert!(row.len() >= n && row.len() < n + LINE);
            assert_eq!(row.as_ptr() as usize % LINE_BYTES, 0);
            assert!(row.as_slice().iter().all(|&v| v == 0.0), "row {i}");
            row.as_mut_slice().fill(i as f32);
        }
        let copy = rows[6].clone();
        rows[6].set(3, -1.0);
        assert_eq!((copy.as_slice()[3], rows[6].as_slice()[3]), (6.0, -1.0));
        rows[6].set(3, 6.0);
        for (i, row) in rows.iter().enumerate() {
            assert!(row.as_slice().iter().all(|&v| v == i as f32), "row {i} was written by another");
        }
        rows.truncate(5);
        let last = Aligned::zeros(800_000);
        assert!(last.as_slice().iter().all(|&v| v == 0.0), "a row that is given out again is zero");
    }
}
