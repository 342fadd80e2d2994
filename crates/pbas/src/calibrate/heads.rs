//! Good scores of all heads. Where each has too few to tell how far good pictures differ, they tell it together.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::GoodScores;

/// For each head the scores of the good pictures that it has not seen. The tail of a head with no more than three scores is at least as long as that of
/// the scores of all heads. Ranks stay those of each head's own scores, so what they prove is as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<GoodScores>", into = "Vec<GoodScores>")]
pub struct HeadScores(Vec<GoodScores>);

impl From<Vec<GoodScores>> for HeadScores {
    fn from(mut heads: Vec<GoodScores>) -> Self {
        let all: Vec<f64> = heads.iter().flat_map(GoodScores::ascending).copied().collect();
        let all = GoodScores::from(all);
        heads.iter_mut().for_each(|h| h.lengthen(&all));
        Self(heads)
    }
}

impl From<HeadScores> for Vec<GoodScores> {
    fn from(heads: HeadScores) -> Self {
        heads.0
    }
}

impl Deref for HeadScores {
    type Target = [GoodScores];

    fn deref(&self) -> &[GoodScores] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(scores: &[&[f64]]) -> HeadScores {
        scores.iter().map(|s| s.to_vec().into()).collect::<Vec<GoodScores>>().into()
    }

    #[test]
    fn heads_of_few_scores_take_the_tail_of_all() {
        let few = heads(&[&[1.0, 9.0], &[2.0, 3.0], &[5.0]]);
        // The highest three of 1, 2, 3, 5, 9 lie 1, 3 and 7 above the next one: a scale of 11 / 3.
        let scale = 11.0 / 3.0;
        let tails: Vec<f64> = few.iter().map(|h| h.tail_fit()[1]).collect();
        assert_eq!(tails, [8.0, scale, scale], "a longer tail of its own stays");
        let alone = GoodScores::from(vec![2.0, 3.0]);
        assert!(few[1].rarity(9.0) < alone.rarity(9.0));
        assert_eq!(
            [2.0, 2.5, 3.0].map(|s| few[1].rarity(s)),
            [2.0, 2.5, 3.0].map(|s| alone.rarity(s)),
            "ranks"
        );
        // It is so again when it is read.
        let text = serde_json::to_string(&few).unwrap();
        assert_eq!(text, "[[1.0,9.0],[2.0,3.0],[5.0]]");
        assert_eq!(serde_json::from_str::<HeadScores>(&text).unwrap(), few);
    }

    #[test]
    fn heads_of_enough_scores_keep_their_own() {
        let scores: [&[f64]; 2] = [&[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0, 30.0, 40.0]];
        let alone: Vec<GoodScores> = scores.iter().map(|s| s.to_vec().into()).collect();
        assert_eq!(heads(&scores)[..], alone[..]);
        assert_eq!(heads(&[&[4.0]])[..], [GoodScores::from(vec![4.0])]);
    }
}
