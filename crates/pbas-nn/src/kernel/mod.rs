//! The kernels that a network spends its time in, for every instruction set: products with packed weights ([`product`]), of float32 or of
//! bfloat16 numbers ([`pairs`] makes their rows), depthwise windows ([`depthwise`]), Winograd's transforms ([`winograd`]), and the distances
//! of a search ([`nearest`]). Safe functions around the crate's hot `unsafe` code.

mod aligned;
pub(crate) mod depthwise;
pub(crate) mod nearest;
pub(crate) mod pairs;
pub(crate) mod product;
pub(crate) mod winograd;

use std::sync::{Arc, OnceLock};

pub(crate) use aligned::Aligned;
use depthwise::PackedDepthwise;
use product::Packed;
use winograd::Transformed;

use crate::precision::Precision;
use crate::simd::Isa;

/// Weights of one node, packed once, whoever asks first.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackCache {
    dense: OnceLock<(Isa, Precision, Arc<Packed>)>,
    depthwise: OnceLock<(Isa, Option<Arc<PackedDepthwise>>)>,
    /// For tiles of two outputs a side, of three, of four.
    winograd: [OnceLock<(Isa, Precision, Arc<Transformed>)>; 3],
}

/// A cache is no part of what a node is.
impl PartialEq for PackCache {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl PackCache {
    /// The packed weights of a convolution over all channels.
    pub(crate) fn dense(&self, isa: Isa, precision: Precision, pack: impl Fn() -> Packed) -> Arc<Packed> {
        let (set, kind, packed) = self.dense.get_or_init(|| (isa, precision, Arc::new(pack())));
        if (*set, *kind) == (isa, precision) { packed.clone() } else { Arc::new(pack()) }
    }

    /// The weights of a 3 x 3 convolution, transformed for tiles of `tile` outputs a side.
    pub(crate) fn winograd(
        &self,
        isa: Isa,
        precision: Precision,
        tile: usize,
        pack: impl Fn() -> Transformed,
    ) -> Arc<Transformed> {
        let (set, kind, packed) = self.winograd[tile - 2].get_or_init(|| (isa, precision, Arc::new(pack())));
        if (*set, *kind) == (isa, precision) { packed.clone() } else { Arc::new(pack()) }
    }

    /// The packed weights of a depthwise convolution, if its channels allow it.
    pub(crate) fn depthwise(
        &self,
        isa: Isa,
        pack: impl Fn() -> Option<PackedDepthwise>,
    ) -> Option<Arc<PackedDepthwise>> {
        let (of, packed) = self.depthwise.get_or_init(|| (isa, pack().map(Arc::new)));
        if *of == isa { packed.clone() } else { pack().map(Arc::new) }
    }
}
