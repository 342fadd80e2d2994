//! Variants of the settings that leave out or change one thing, as the tables of the paper do.

use crate::patch::Pooling;
use crate::settings::{CenterRule, Settings};
use crate::{Error, Result};

/// Every ablation that means something with these settings: a name, and the settings changed.
///
/// - `without-abl`: the boundary loss counts nothing;
/// - `mean-centre`: one centre for all patches instead of aligned or neighbour centres;
/// - `without-neighbours`: heads alone, no distance to remembered good patches;
/// - `k-*`: the synthesis scale fixed;
/// - `rate-*`: both learning rates multiplied;
/// - `layer-*`: one feature layer alone;
/// - `embed-*`: another embed dimension, where features are pooled adaptively.
#[must_use]
pub fn ablations(base: &Settings) -> Vec<(String, Settings)> {
    let mut all = Vec::new();
    let mut push = |name: String, change: &dyn Fn(&mut Settings)| {
        let mut settings = base.clone();
        change(&mut settings);
        if settings != *base {
            all.push((name, settings));
        }
    };
    push("without-abl".into(), &|s| s.head.boundary_weight = 0.0);
    push("mean-centre".into(), &|s| s.head.centers = CenterRule::Mean);
    push("without-neighbours".into(), &|s| s.neighbours = None);
    for k in [0.1, 0.25, 0.5, 1.0] {
        push(format!("k-{k}"), &|s| s.head.synthesis_scale = [k, k]);
    }
    for factor in [0.3, 3.0] {
        push(format!("rate-{factor}"), &|s| {
            s.head.projection_rate *= factor;
            s.head.discriminator_rate *= factor;
        });
    }
    if base.feature_layers.len() > 1 {
        for layer in &base.feature_layers {
            push(format!("layer-{layer}"), &|s| s.feature_layers = vec![layer.clone()]);
        }
    }
    if let Pooling::Adaptive { embed_dim: dim } = base.pooling {
        for embed_dim in [dim / 4, dim / 2].into_iter().filter(|d| *d > 0) {
            push(format!("embed-{embed_dim}"), &|s| s.pooling = Pooling::Adaptive { embed_dim });
        }
    }
    all
}

/// The ablations of these names; `all` is every one.
///
/// # Errors
/// A name that is none, with those that there are.
pub fn named_ablations(base: &Settings, names: &[String]) -> Result<Vec<(String, Settings)>> {
    let all = ablations(base);
    if names.iter().any(|n| n == "all") {
        return Ok(all);
    }
    if let Some(odd) = names.iter().find(|n| all.iter().all(|(name, _)| name != *n)) {
        let there: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Error::caller(format!(
            "ablation `{odd}`: there is none of this name with these settings"
        ))
        .with_hint(format!("there are: {}", there.join(", "))));
    }
    Ok(all.into_iter().filter(|(name, _)| names.contains(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Preset;

    #[test]
    fn each_changes_one_thing_and_is_valid() {
        for preset in [Preset::Fast, Preset::Paper] {
            let base = Settings::preset(preset);
            let all = ablations(&base);
            assert!(all.len() >= 9, "{preset:?}: {}", all.len());
            for (name, settings) in &all {
                settings.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_ne!(settings, &base, "{name}");
            }
            assert_eq!(named_ablations(&base, &["all".into()]).unwrap(), all);
            assert_eq!(named_ablations(&base, &["mean-centre".into()]).unwrap().len(), 1);
        }
        // The published k is the base itself.
        assert!(ablations(&Settings::preset(Preset::Paper)).iter().all(|(name, _)| name != "k-0.25"));
        let e = named_ablations(&Settings::preset(Preset::Fast), &["embed-9".into()]).unwrap_err();
        assert!(e.hint().unwrap().contains("without-abl"));
    }
}
