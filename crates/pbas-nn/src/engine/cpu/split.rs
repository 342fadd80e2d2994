//! How lines of a map are shared out.

use crate::linalg::Threads;

/// Lines of a piece of work, at most `most` of `height` and not less than half of that: those with which the busiest of `threads`
/// has the least to do; of equals the most.
pub(super) fn even_lines(height: usize, most: usize, threads: usize) -> usize {
    let most = most.clamp(1, height.max(1));
    let least = if threads == 1 { most } else { most.div_ceil(2) };
    (least..=most).rev().min_by_key(|&lines| busiest(height, lines, threads)).unwrap_or(most)
}

/// Lines that the busiest of `threads` has, in pieces of `lines`.
pub(super) fn busiest(height: usize, lines: usize, threads: usize) -> usize {
    height.div_ceil(lines).div_ceil(threads) * lines
}

/// Threads that a step may use.
pub(super) fn count(threads: Threads) -> usize {
    match threads {
        Threads::One => 1,
        Threads::All => rayon::current_num_threads(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_large_as_they_can_be_and_fair() {
        for (height, most, threads, expected) in [
            (18, 5, 2, 3),
            (18, 5, 1, 5),
            (36, 2, 2, 2),
            (9, 2, 2, 1),
            (7, 9, 1, 7),
            (1, 4, 8, 1),
            (72, 1, 2, 1),
        ] {
            assert_eq!(even_lines(height, most, threads), expected, "{height} lines, {threads} threads");
        }
    }
}
