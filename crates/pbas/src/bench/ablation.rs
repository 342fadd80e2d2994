//! Variants of the settings that leave out or change one thing, as the tables of the paper do.

use crate::patch::Pooling;
use crate::settings::{CenterRule, Settings, Synthesis};
use crate::{Error, Result};

/// Standard deviations of the noise that stands in for AFS; the first is SimpleNet's.
const NOISES: [f32; 3] = [0.015, 0.1, 0.5];
/// Synthesis scales `k`.
const SCALES: [f32; 4] = [0.1, 0.25, 0.5, 1.0];
/// Weights of a batch in its centre.
const MOMENTA: [f32; 4] = [0.0, 0.05, 0.2, 0.5];
/// Factors of both learning rates.
const RATES: [f32; 2] = [0.3, 3.0];
/// Feature layers that are used together, at most.
const LAYERS: usize = 3;

/// Every ablation that means something with these settings and a backbone with these feature layers, finest first: a name, and the settings
/// changed.
///
/// - `without-abl`: the boundary loss counts nothing;
/// - `mean-centre`: no alignment, one centre for all patches; `aligned-centres`: the published one a position, where another rule is the base;
/// - `noise-*`: Gaussian noise of this deviation in every entry, in place of AFS: a fixed size, random directions;
/// - `without-rbo`: no discriminator, the distance to the centre is the score;
/// - `without-neighbours`: heads alone, no distance to remembered good patches;
/// - `k-*`: the synthesis scale fixed;
/// - `momentum-*`: the weight of a batch in its centre, where centres are aligned;
/// - `rate-*`: both learning rates multiplied;
/// - `layer-*`, `layers-*`: one feature layer alone, or up to three in a row, of the base's and those next to them;
/// - `embed-*`: another embed dimension, where features are pooled adaptively.
#[must_use]
pub fn ablations(base: &Settings, known_layers: &[&str]) -> Vec<(String, Settings)> {
    let mut all = Vec::new();
    let mut push = |name: String, change: &dyn Fn(&mut Settings)| {
        let mut settings = base.clone();
        change(&mut settings);
        if settings != *base && settings.validate().is_ok() {
            all.push((name, settings));
        }
    };
    push("without-abl".into(), &|s| s.head.boundary_weight = 0.0);
    push("mean-centre".into(), &|s| s.head.centers = CenterRule::Mean);
    push("aligned-centres".into(), &|s| s.head.centers = CenterRule::Positions);
    for sigma in NOISES {
        push(format!("noise-{sigma}"), &|s| s.head.synthesis = Synthesis::Noise(sigma));
    }
    push("without-rbo".into(), &|s| s.head.refinement = false);
    push("without-neighbours".into(), &|s| s.neighbours = None);
    for k in SCALES {
        push(format!("k-{k}"), &|s| s.head.synthesis_scale = [k, k]);
    }
    if base.head.centers == CenterRule::Positions {
        for momentum in MOMENTA {
            push(format!("momentum-{momentum}"), &|s| s.head.center_momentum = momentum);
        }
    }
    for factor in RATES {
        push(format!("rate-{factor}"), &|s| s.head.multiply_rates(factor));
    }
    for layers in layer_sets(&base.feature_layers, known_layers) {
        let name = if layers.len() == 1 { "layer" } else { "layers" };
        push(format!("{name}-{}", layers.join("+")), &|s| s.feature_layers.clone_from(&layers));
    }
    if let Pooling::Adaptive { embed_dim: dim } = base.pooling {
        for embed_dim in [dim / 4, dim / 2, dim * 2].into_iter().filter(|d| *d > 0) {
            push(format!("embed-{embed_dim}"), &|s| s.pooling = Pooling::Adaptive { embed_dim });
        }
    }
    all
}

/// Up to [`LAYERS`] known layers in a row with at least one of `base`, no further than one beyond it.
fn layer_sets(base: &[String], known: &[&str]) -> Vec<Vec<String>> {
    let of_base = |name: &str| base.iter().any(|b| b == name);
    let (Some(first), Some(last)) =
        (known.iter().position(|n| of_base(n)), known.iter().rposition(|n| of_base(n)))
    else {
        return Vec::new();
    };
    let near = &known[first.saturating_sub(1)..known.len().min(last + 2)];
    let runs = (1..=LAYERS).flat_map(|n| near.windows(n));
    let runs = runs.filter(|run| run.iter().any(|n| of_base(n)));
    runs.map(|run| run.iter().map(|n| (*n).to_owned()).collect()).collect()
}

/// The ablations of these names; `all` is every one.
///
/// # Errors
/// A name that is none, with those that there are.
pub fn named_ablations(
    base: &Settings,
    known_layers: &[&str],
    names: &[String],
) -> Result<Vec<(String, Settings)>> {
    let all = ablations(base, known_layers);
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

    const LITE: [&str; 4] = ["stride4", "stride8", "stride16", "stride32"];

    #[test]
    fn each_changes_one_thing_and_is_valid() {
        for preset in [Preset::Fast, Preset::Paper] {
            let base = Settings::preset(preset);
            let all = ablations(&base, &LITE);
            for (name, settings) in &all {
                settings.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_ne!(settings, &base, "{name}");
                assert_eq!(all.iter().filter(|(n, _)| n == name).count(), 1, "{name}");
            }
            assert_eq!(named_ablations(&base, &LITE, &["all".into()]).unwrap(), all);
            assert_eq!(named_ablations(&base, &LITE, &["mean-centre".into()]).unwrap().len(), 1);
        }
        let e = named_ablations(&Settings::preset(Preset::Fast), &LITE, &["embed-9".into()]).unwrap_err();
        assert!(e.hint().unwrap().contains("without-abl"));
    }

    #[test]
    fn the_tables_of_the_paper_are_there() {
        let mut base = Settings::preset(Preset::Paper);
        base.feature_layers = ["layer2", "layer3"].map(String::from).to_vec();
        let all = ablations(&base, &["layer1", "layer2", "layer3", "layer4"]);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let expected = "without-abl mean-centre noise-0.015 noise-0.1 noise-0.5 without-rbo k-0.1 k-0.5 k-1 momentum-0 momentum-0.05 \
                        momentum-0.2 momentum-0.5 rate-0.3 rate-3 layer-layer2 layer-layer3 layers-layer1+layer2 layers-layer3+layer4 \
                        layers-layer1+layer2+layer3 layers-layer2+layer3+layer4 embed-384 embed-768 embed-3072";
        // The published k, momentum and layers are the base itself.
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
        let fast = ablations(&Settings::preset(Preset::Fast), &LITE);
        let there = |name: &str| fast.iter().any(|(n, _)| n == name);
        assert!(
            ["without-neighbours", "aligned-centres", "without-rbo", "layer-stride8"].map(there) == [true; 4]
        );
        assert!(!there("momentum-0.2"), "neighbours have no momentum");
    }
}
