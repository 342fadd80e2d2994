//! Buffers by lifetime: maps that are never needed at the same time share one.

/// One step as placement sees it: the values it reads, and the one it writes.
#[derive(Debug, Clone)]
pub(super) struct Use {
    pub reads: Vec<usize>,
    pub writes: usize,
}

/// The buffer of each value, and how many numbers each buffer holds. A buffer is free once every step that reads its
/// value has run; `kept` values keep theirs. A value takes the free buffer that fits best, else the largest free one
/// grown, else a new one.
pub(super) fn place(lengths: &[usize], steps: &[Use], kept: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut last_use = vec![0; lengths.len()];
    for (i, step) in steps.iter().enumerate() {
        last_use[step.writes] = i;
        for &value in &step.reads {
            last_use[value] = i;
        }
    }
    for &value in kept {
        last_use[value] = usize::MAX;
    }
    let (mut buffer, mut capacity) = (vec![0; lengths.len()], Vec::<usize>::new());
    let mut free: Vec<usize> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let need = lengths[step.writes];
        let best = (0..free.len())
            .filter(|&f| capacity[free[f]] >= need)
            .min_by_key(|&f| capacity[free[f]])
            .or_else(|| (0..free.len()).max_by_key(|&f| capacity[free[f]]));
        let chosen = match best {
            Some(f) => free.swap_remove(f),
            None => {
                capacity.push(0);
                capacity.len() - 1
            }
        };
        buffer[step.writes] = chosen;
        capacity[chosen] = capacity[chosen].max(need);
        let mut done: Vec<usize> = step.reads.iter().copied().filter(|&v| last_use[v] == i).collect();
        done.sort_unstable();
        done.dedup();
        free.extend(done.into_iter().map(|v| buffer[v]));
        if last_use[step.writes] == i {
            free.push(chosen); // A map that nobody reads.
        }
    }
    (buffer, capacity)
}
