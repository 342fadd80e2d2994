//! The options that shape training, shared by the commands that train.

use std::path::PathBuf;

use pbas::settings::Sizes;

use super::{
    AugmentName, FitName, FuseName, PrecisionName, PresetName, parse_bytes, parse_scale, parse_sizes,
};

/// What is trained, and within which limits.
#[derive(Debug, Clone, clap::Args)]
pub struct Recipe {
    /// Settings to start from; the other options override single ones
    #[arg(long, value_enum, default_value = "fast")]
    pub preset: PresetName,
    /// Sizes in pixels at which a picture is looked at, one view each: `auto` (by the pictures' own size, the shorter side up to
    /// 640), `native` (the same up to 2048: small defects in large pictures), `288`, `640,448,288` or `640x480` (width x
    /// height); a side is 32 to 4096 [default: auto; paper: 288]
    #[arg(long, value_name = "SIZES", value_parser = parse_sizes)]
    pub size: Option<Sizes>,
    /// What gives way where a picture has other proportions than the size: `stretch` the proportions, `crop` the
    /// margins (the size's shorter side is the picture's, the centre is cut out; needs one size), `pad` the
    /// resolution [default: stretch; paper: crop]
    #[arg(long, value_enum)]
    pub fit: Option<FitName>,
    /// Name of an imported backbone (see `pbas backbone`), or a file with weights of EfficientNet-Lite0, Lite1 or Lite2, or of a ResNet
    /// (names of torchvision or timm), as .safetensors or .pth; no code in it is run [default: Lite0, inside the program]
    #[arg(long, value_name = "NAME|FILE")]
    pub backbone: Option<PathBuf>,
    /// Layers whose features are used: any of stride4, stride8, stride16, stride32, or layer1 to layer4 of a ResNet [default:
    /// stride8,stride16,stride32; paper: stride8,stride16; of a ResNet: layer2,layer3]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub feature_layers: Option<Vec<String>>,
    /// Heads a view, 1 to 16, each trained without one fold of the pictures, which it then scores for the threshold;
    /// 1 keeps 15 % of the pictures out of training instead [default: 3, or 5 of 10 to 59 pictures; paper: 1]
    #[arg(long, value_name = "N")]
    pub folds: Option<usize>,
    /// What is added to the heads' logits: the distance to the `nearest` of the good patches that the model remembers, or `none`: PBAS alone,
    /// a little faster and on most sets less accurate [default: nearest; paper: none]
    #[arg(long, value_enum)]
    pub fuse: Option<FuseName>,
    /// Also train on changed copies of the pictures: `light` (one each, a little rotated, shifted, brighter or darker, blurred), `strong` (three, changed
    /// more, with noise), `rotations` (three, by any angle, for parts without orientation). Takes as many times longer to read, and more steps: its square root times as many at least
    #[arg(long, value_enum, default_value = "off")]
    pub augment: AugmentName,
    /// Numbers of the network's products, with float32 sums either way; the model keeps it, and is always run with it. `bf16` is faster
    /// on processors with AVX512-BF16 and slower on others, which imitate it; `auto` is `f32` as long as `bf16` moves a figure of
    /// docs/results.md by more than 0.001
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionName,
    /// Report no region of fewer pixels of the picture; scores and verdicts stay as they are [default: 0]
    #[arg(long, value_name = "N")]
    pub min_area: Option<usize>,
    /// Share of good parts that may be rejected, above 0 to 0.5; what the pictures prove of it is printed and kept in the model
    /// [default: 0.01]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub false_reject_rate: Option<f64>,
    /// Train each head for so many passes over its pictures [default: see --steps; paper: 640]
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    pub epochs: Option<u64>,
    /// Train each head for so many steps [default: one pass over its pictures' patches, at least 400 and at most 1600 steps; paper: see --epochs]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Entries of a patch feature, 1 to 8192, by the published adaptive pooling [default: the channels as they are;
    /// paper: 1536]
    #[arg(long, value_name = "N")]
    pub embed_dim: Option<usize>,
    /// Hidden units of the discriminator, 1 to 8192 [default: 256; paper: 1024]
    #[arg(long, value_name = "N")]
    pub hidden: Option<usize>,
    /// How far synthetic features lie from normal ones, above 0 to 10: a number, or LOW..HIGH to draw from evenly
    /// [default: 0.05..0.6; paper: 0.25]
    #[arg(long, value_name = "K", value_parser = parse_scale)]
    pub synthesis_scale: Option<[f32; 2]>,
    /// What a step takes [default: 1296 patches; paper: 8 pictures]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Memory that cached features may take (B, kB, MB, GB, KiB, MiB, GiB); beyond it a temporary file is used
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = parse_bytes)]
    pub cache_limit: u64,
    /// Folder of that temporary file [default: the system's]
    #[arg(long, value_name = "DIR")]
    pub temp_dir: Option<PathBuf>,
}
