//! Values in order, of which the rank of another is asked again and again.

/// Most values in a block before it is split.
const BLOCK: usize = 1024;

/// A sorted list in blocks: a million values cost neither much time to insert nor to rank.
#[derive(Debug, Clone, Default)]
pub struct Ranks {
    blocks: Vec<Vec<f64>>,
    len: usize,
}

impl Ranks {
    /// Of these values, which are finite.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { blocks: sorted.chunks(BLOCK / 2).map(<[f64]>::to_vec).collect(), len: values.len() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value.
    pub fn insert(&mut self, value: f64) {
        self.len += 1;
        let at = self.blocks.partition_point(|b| b.last().is_some_and(|last| *last < value));
        let at = at.min(self.blocks.len().saturating_sub(1));
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push(vec![value]);
            return;
        };
        block.insert(block.partition_point(|v| *v < value), value);
        if block.len() > BLOCK {
            let upper = block.split_off(BLOCK / 2);
            self.blocks.insert(at + 1, upper);
        }
    }

    /// How many are below a value, and how many are equal to it.
    #[must_use]
    pub fn rank(&self, value: f64) -> (usize, usize) {
        let (mut below, mut not_above) = (0, 0);
        for block in &self.blocks {
            if block.last().is_some_and(|last| *last < value) {
                below += block.len();
                not_above += block.len();
                continue;
            }
            if block.first().is_some_and(|first| *first > value) {
                break;
            }
            below += block.partition_point(|v| *v < value);
            not_above += block.partition_point(|v| *v <= value);
        }
        (below, not_above - below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::tests::Random;

    #[test]
    fn ranks_are_those_of_a_plain_list() {
        let mut random = Random(3);
        let mut plain: Vec<f64> = (0..700).map(|_| (random.uniform() * 40.0).floor()).collect();
        let mut ranks = Ranks::of(&plain);
        for _ in 0..4000 {
            let value = (random.uniform() * 40.0).floor();
            ranks.insert(value);
            plain.push(value);
        }
        assert_eq!(ranks.len(), plain.len());
        for tenth in -10..420 {
            let value = f64::from(tenth) / 10.0;
            let below = plain.iter().filter(|v| **v < value).count();
            let equal = plain.iter().filter(|v| **v == value).count();
            assert_eq!(ranks.rank(value), (below, equal), "{value}");
        }
        assert_eq!(Ranks::default().rank(1.0), (0, 0));
    }
}
