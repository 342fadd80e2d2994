//! The two kernels that a network spends its time in, for every instruction set: products with packed weights
//! ([`product`]) and depthwise windows ([`depthwise`]). Safe functions around the crate's hot `unsafe` code.

pub(crate) mod depthwise;
pub(crate) mod product;

use std::sync::{Arc, OnceLock};

use depthwise::PackedDepthwise;
use product::Packed;

use crate::simd::Isa;

/// Weights of one node, packed once, whoever asks first.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackCache {
    dense: OnceLock<(Isa, Arc<Packed>)>,
    depthwise: OnceLock<(Isa, Option<Arc<PackedDepthwise>>)>,
}

/// A cache is no part of what a node is.
impl PartialEq for PackCache {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl PackCache {
    /// The packed weights of a convolution over all channels.
    pub(crate) fn dense(&self, isa: Isa, pack: impl Fn() -> Packed) -> Arc<Packed> {
        let (of, packed) = self.dense.get_or_init(|| (isa, Arc::new(pack())));
        if *of == isa { packed.clone() } else { Arc::new(pack()) }
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

/// Float32 values that begin on a cache line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

impl Aligned {
    /// At least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)] }
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.lines.len() * LINE
    }

    pub(crate) fn set(&mut self, i: usize, v: f32) {
        self.lines[i / LINE].0[i % LINE] = v;
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.lines.as_ptr().cast()
    }
}
