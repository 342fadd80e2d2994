//! A picture -> pooled features at one size: preprocessing, backbone, patch pooling.

use half::f16;
use half::slice::HalfFloatSliceExt;
use pbas_nn::Precision;
use pbas_nn::engine::cpu::{Plan, Workspace};
use pbas_nn::linalg::Threads;

use crate::backbone::Backbone;
use crate::image::Rgb8;
use crate::patch::{PatchEmbedding, Pooling};
use crate::preprocess::{Geometry, InputSize, Normalization, Placement};
use crate::settings::Settings;
use crate::{Error, Result};

/// The frozen part of a view: everything from pixels to pooled features.
#[derive(Debug)]
pub struct Extractor {
    geometry: Geometry,
    normalization: Normalization,
    plan: Plan,
    embedding: PatchEmbedding,
}

/// Buffers of one extraction; made once a thread, used for many pictures.
#[derive(Debug, Default)]
pub struct ExtractScratch {
    input: Vec<f32>,
    workspace: Workspace,
}

impl Extractor {
    /// Resolves `backbone` for pictures laid out by `geometry`, with the named feature layers in the order given, the network computing with `precision`.
    ///
    /// # Errors
    /// An unknown feature layer, or a picture size that the network cannot take.
    pub fn new(
        backbone: &Backbone,
        geometry: Geometry,
        feature_layers: &[String],
        pooling: Pooling,
        precision: Precision,
    ) -> Result<Self> {
        let names: Vec<&str> = feature_layers.iter().map(String::as_str).collect();
        let graph = backbone.graph.select(&names)?;
        let plan = Plan::new(graph, geometry.size.height, geometry.size.width, precision)?;
        let embedding = PatchEmbedding::new(&plan.output_shapes().collect::<Vec<_>>(), pooling)?;
        Ok(Self { geometry, normalization: backbone.info.normalization, plan, embedding })
    }

    /// As [`Extractor::new`], for a view of `size` pixels with the settings of a model.
    ///
    /// # Errors
    /// As [`Extractor::new`].
    pub fn for_view(backbone: &Backbone, size: InputSize, settings: &Settings) -> Result<Self> {
        let geometry = Geometry { fit: settings.fit, size };
        Self::new(backbone, geometry, &settings.feature_layers, settings.pooling, settings.precision)
    }

    /// How pooled features become patch features.
    #[must_use]
    pub fn embedding(&self) -> &PatchEmbedding {
        &self.embedding
    }

    /// The network.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How a picture is laid out.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Pooled features of one picture ([`PatchEmbedding::pool`]) and where the picture lies in the input.
    ///
    /// # Errors
    /// A picture that the geometry cannot lay out.
    pub fn extract(
        &self,
        picture: &Rgb8,
        scratch: &mut ExtractScratch,
        threads: Threads,
    ) -> Result<(Vec<f32>, Placement)> {
        let (laid_out, placement) = self.geometry.apply(picture)?;
        scratch.input.resize(laid_out.data.len(), 0.0);
        self.normalization.write_nhwc(&laid_out, &mut scratch.input)?;
        self.plan.run(&mut scratch.workspace, &scratch.input, threads)?;
        let maps: Vec<&[f32]> =
            (0..self.plan.output_shapes().count()).map(|n| self.plan.output(&scratch.workspace, n)).collect();
        let mut pooled = vec![0.0; self.embedding.pooled_len()];
        self.embedding.pool(&maps, &mut pooled, threads == Threads::All);
        Ok((pooled, placement))
    }
}

/// Rounds pooled features to float16, the form in which they are cached.
///
/// # Errors
/// A feature beyond float16's range (65,504), which no sane backbone gives.
pub fn to_half(pooled: &[f32], out: &mut [f16]) -> Result<()> {
    out.convert_from_f32_slice(pooled);
    if out.iter().any(|v| !v.is_finite()) {
        return Err(Error::input(
            "backbone features: expected values within +-65504, found larger ones or NaN",
        ));
    }
    Ok(())
}
