//! ResNets of the published shapes with random weights: enough for speed and for tests of the shapes.
#![allow(dead_code)] // Each user needs its part.

use pbas_nn::weights::{NamedTensors, Tensor};
use rand::SeedableRng;
use rand_distr::{Distribution, Normal};

/// Shape of a ResNet.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bottlenecks, or basic blocks.
    pub bottleneck: bool,
    /// Blocks of each layer.
    pub depths: &'static [usize],
    /// Width of the first block; each layer doubles it.
    pub width: usize,
}

pub const RESNET18: Shape = Shape { bottleneck: false, depths: &[2, 2, 2, 2], width: 64 };
pub const RESNET34: Shape = Shape { bottleneck: false, depths: &[3, 4, 6, 3], width: 64 };
pub const RESNET50: Shape = Shape { bottleneck: true, depths: &[3, 4, 6, 3], width: 64 };
pub const RESNET101: Shape = Shape { bottleneck: true, depths: &[3, 4, 23, 3], width: 64 };
pub const WIDE_RESNET50_2: Shape = Shape { bottleneck: true, depths: &[3, 4, 6, 3], width: 128 };
pub const WIDE_RESNET101_2: Shape = Shape { bottleneck: true, depths: &[3, 4, 23, 3], width: 128 };

impl Shape {
    /// The same without the layers from `count` on.
    pub fn layers(self, count: usize) -> Self {
        Self { depths: &self.depths[..count], ..self }
    }

    /// Tensors under torchvision's names. Convolutions are drawn from He's normal distribution; BatchNorm is the identity,
    /// but a half at the end of each block, so that values keep their size.
    pub fn random(self, seed: u64) -> NamedTensors {
        let mut random =
            Random { rng: rand_chacha::ChaCha8Rng::seed_from_u64(seed), tensors: NamedTensors::new() };
        random.layer("conv1", "bn1", [64, 3, 7], 1.0);
        let mut from = 64;
        for (layer, &depth) in self.depths.iter().enumerate() {
            let width = self.width << layer;
            let to = if self.bottleneck { 256 << layer } else { width };
            for block in 0..depth {
                let name = |part: &str| format!("layer{}.{block}.{part}", layer + 1);
                let parts: &[[usize; 3]] = if self.bottleneck {
                    &[[width, from, 1], [width, width, 3], [to, width, 1]]
                } else {
                    &[[width, from, 3], [to, width, 3]]
                };
                for (n, &shape) in (1..).zip(parts) {
                    let scale = if n == parts.len() { 0.5 } else { 1.0 };
                    random.layer(&name(&format!("conv{n}")), &name(&format!("bn{n}")), shape, scale);
                }
                if block == 0 && (from != to || layer > 0) {
                    random.layer(&name("downsample.0"), &name("downsample.1"), [to, from, 1], 1.0);
                }
                from = to;
            }
        }
        random.tensors
    }
}

struct Random {
    rng: rand_chacha::ChaCha8Rng,
    tensors: NamedTensors,
}

impl Random {
    fn layer(&mut self, conv: &str, bn: &str, [out, inner, kernel]: [usize; 3], scale: f32) {
        let fan = inner * kernel * kernel;
        let normal = Normal::new(0.0, (2.0 / fan as f32).sqrt()).expect("a positive deviation");
        let data = normal.sample_iter(&mut self.rng).take(out * fan).collect();
        self.tensors
            .insert(format!("{conv}.weight"), Tensor { shape: vec![out, inner, kernel, kernel], data });
        for (what, value) in [("weight", scale), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
            let tensor = Tensor { shape: vec![out], data: vec![value; out] };
            self.tensors.insert(format!("{bn}.{what}"), tensor);
        }
    }
}
