//! Numbers in sentences, so that every part of the program says them in the same way.

/// `1 picture`, `3 pictures`.
#[must_use]
pub fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A share in per cent, with the digits that matter: `1 %`, `0.25 %`, `33 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let digits =
        if percent >= 9.95 { 0 } else { (1.0 - percent.max(1e-6).log10().floor()).clamp(1.0, 6.0) as usize };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

/// How many of a list are named.
const NAMED: usize = 5;

/// `a, b, c`; of a long list the first five and how many more there are.
#[must_use]
pub fn listed(names: &[String]) -> String {
    listed_to(names, NAMED)
}

/// As [`listed`], the first `most`.
#[must_use]
pub fn listed_to(names: &[String], most: usize) -> String {
    let shown = names[..names.len().min(most)].join(", ");
    let more = names.len().saturating_sub(most);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_counts() {
        assert_eq!([0.25, 0.05, 0.0123, 0.001].map(percent), ["25 %", "5 %", "1.2 %", "0.1 %"]);
        assert_eq!([0.0, 1.0].map(percent), ["0 %", "100 %"]);
        let names: Vec<String> = "abcdefg".chars().map(String::from).collect();
        assert_eq!(
            [1, 5, 7].map(|n| listed(&names[..n])),
            ["a", "a, b, c, d, e", "a, b, c, d, e and 2 more"]
        );
        assert_eq!([0, 1, 2].map(|n| counted(n, "head")), ["0 heads", "1 head", "2 heads"]);
    }
}
