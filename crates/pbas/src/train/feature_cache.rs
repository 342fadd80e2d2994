//! Features of the training pictures, computed once: the backbone is frozen and there is no augmentation.
//!
//! What is kept is the pooled form of [`PatchEmbedding::pool`] as float16: every patch of every picture can be had from it,
//! in a fraction of the room that the patches themselves would take.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use half::f16;
use half::slice::HalfFloatSliceExt;
use pbas_nn::linalg::Threads;
use pbas_nn::spill::HalfStore;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::observer::Observer;
use super::sweep::{BLOCK, each};
use crate::backbone::hex;
use crate::doctor::Look;
use crate::doctor::features::whole_picture;
use crate::features::{ExtractScratch, Extractor, to_half};
use crate::image::{DecodeOptions, read_rgb_and_bytes};
use crate::patch::PatchEmbedding;
use crate::roi::{Positions, Roi};
use crate::{Error, ErrorKind, Result};

/// Cached features of the pictures that could be read.
#[derive(Debug)]
pub struct FeatureCache {
    views: Vec<CachedView>,
    /// Slot of each readable picture, in the order of the list.
    slots: Vec<usize>,
}

#[derive(Debug)]
struct CachedView {
    store: HalfStore,
    pooled_len: usize,
    embedding: PatchEmbedding,
    positions: Positions,
}

/// What the pass over the pictures found.
#[derive(Debug)]
pub struct Survey {
    /// Pictures that could not be read, with the reason.
    pub skipped: Vec<(PathBuf, Error)>,
    /// SHA-256 over the SHA-256 of every readable file, in order.
    pub digest: String,
    /// Every readable picture looked at by the doctor, in order; with features of its last view.
    pub looks: Vec<Look>,
}

impl FeatureCache {
    /// Reads every picture once and extracts its features at every size. At most `memory_limit` bytes stay in memory; what goes
    /// beyond lies in a temporary file in `temp_dir` (or the system's folder).
    ///
    /// # Errors
    /// No readable picture, a region of interest in which no patch of a view lies, no room for the temporary file, or an interrupt.
    pub fn fill(
        pictures: &[PathBuf],
        extractors: &[&Extractor],
        roi: Option<&Roi>,
        decode: &DecodeOptions,
        memory_limit: u64,
        temp_dir: Option<&Path>,
        observer: &dyn Observer,
    ) -> Result<(Self, Survey)> {
        let mut left = memory_limit;
        let mut views = Vec::new();
        for extractor in extractors {
            let embedding = extractor.embedding().clone();
            let pooled_len = embedding.pooled_len();
            let positions = Positions::of(roi, &extractor.geometry(), embedding.grid())?;
            let total = pooled_len.checked_mul(pictures.len()).ok_or_else(|| {
                Error::limits(format!(
                    "feature cache: {} pictures are more than can be counted",
                    pictures.len()
                ))
            })?;
            let store = HalfStore::with_capacity(total, left, temp_dir)?;
            if !store.is_spilled() {
                left = left.saturating_sub(2 * total as u64);
            }
            views.push(CachedView { store, pooled_len, embedding, positions });
        }
        // Room of each picture in every view, so that pictures can be written side by side.
        let mut rooms: Vec<Vec<&mut [f16]>> = pictures.iter().map(|_| Vec::new()).collect();
        for view in &mut views {
            let chunks = view.store.as_mut_slice().chunks_exact_mut(view.pooled_len);
            rooms.iter_mut().zip(chunks).for_each(|(room, chunk)| room.push(chunk));
        }
        observer.begin("features", pictures.len() as u64, "pictures");
        let looks: Mutex<Vec<Option<Look>>> = Mutex::new(vec![None; pictures.len()]);
        let skipped: Mutex<Vec<(usize, Error)>> = Mutex::new(Vec::new());
        let work = |scratch: &mut Vec<ExtractScratch>, (i, room): (usize, &mut Vec<&mut [f16]>)| {
            if observer.interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "stopped while reading pictures"));
            }
            scratch.resize_with(extractors.len(), ExtractScratch::default);
            match extract_one(&pictures[i], extractors, roi, decode, scratch, room) {
                Ok(look) => looks.lock().expect("no panic while locked")[i] = Some(look),
                Err(e) => skipped.lock().expect("no panic while locked").push((i, e)),
            }
            observer.advance(1);
            Ok(())
        };
        rooms.par_iter_mut().enumerate().with_max_len(1).map_init(Vec::new, work).collect::<Result<()>>()?;
        observer.end();

        let looks = looks.into_inner().expect("no panic while locked");
        let mut skipped = skipped.into_inner().expect("no panic while locked");
        skipped.sort_by_key(|(i, _)| *i);
        let mut all = Sha256::new();
        looks.iter().flatten().for_each(|l| all.update(l.sha256));
        let slots: Vec<usize> = (0..pictures.len()).filter(|&i| looks[i].is_some()).collect();
        if slots.is_empty() {
            let (_, first) = skipped.swap_remove(0);
            return Err(first.context(format!("none of the {} pictures could be read", pictures.len())));
        }
        let skipped = skipped.into_iter().map(|(i, e)| (pictures[i].clone(), e)).collect();
        let looks: Vec<Look> = looks.into_iter().flatten().collect();
        Ok((Self { views, slots }, Survey { skipped, digest: hex(&all.finalize()), looks }))
    }

    /// Readable pictures.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.slots.len()
    }

    /// Where a picture stands in the list that the cache was filled from.
    #[must_use]
    pub fn listed(&self, picture: usize) -> usize {
        self.slots[picture]
    }

    /// How patches of a view are made.
    #[must_use]
    pub fn embedding(&self, view: usize) -> &PatchEmbedding {
        &self.views[view].embedding
    }

    /// Positions of a view that are trained on.
    #[must_use]
    pub fn positions(&self, view: usize) -> &Positions {
        &self.views[view].positions
    }

    /// The patch feature of one position of one picture.
    pub fn gather(
        &self,
        view: usize,
        picture: usize,
        position: usize,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        let v = &self.views[view];
        let pooled = &v.store.as_slice()[self.slots[picture] * v.pooled_len..][..v.pooled_len];
        v.embedding.gather_f16(pooled, position, out, scratch);
    }

    /// All patch features of one picture that are trained on, `[positions, dim]`.
    pub fn gather_all(&self, view: usize, picture: usize, out: &mut [f32], threads: Threads) {
        let CachedView { embedding, positions, .. } = &self.views[view];
        let dim = embedding.dim();
        each(threads, out.chunks_mut(BLOCK * dim), |block, rows| {
            let mut scratch = Vec::new();
            for (i, row) in (block * BLOCK..).zip(rows.chunks_exact_mut(dim)) {
                self.gather(view, picture, positions.nth(i), row, &mut scratch);
            }
        });
    }

    /// The pooled values of one picture ([`PatchEmbedding::pool`]), widened into `out`.
    pub fn pooled(&self, view: usize, picture: usize, out: &mut Vec<f32>) {
        let v = &self.views[view];
        out.resize(v.pooled_len, 0.0);
        v.store.as_slice()[self.slots[picture] * v.pooled_len..][..v.pooled_len].convert_to_f32_slice(out);
    }
}

/// Reads one file, fills its room in every view, and looks at it.
fn extract_one(
    path: &Path,
    extractors: &[&Extractor],
    roi: Option<&Roi>,
    decode: &DecodeOptions,
    scratch: &mut [ExtractScratch],
    room: &mut [&mut [f16]],
) -> Result<Look> {
    let (mut picture, bytes) = read_rgb_and_bytes(path, decode)?;
    if let Some(roi) = roi {
        picture = roi.paint(&picture)?;
    }
    let mut look = Look::at(&bytes, &picture, false)?;
    let mut last = None;
    for ((extractor, scratch), out) in extractors.iter().zip(scratch).zip(room) {
        let (pooled, _) = extractor.extract(&picture, scratch, Threads::One)?;
        to_half(&pooled, out)?;
        last = Some((pooled, extractor.embedding()));
    }
    look.features = last.map(|(pooled, embedding)| whole_picture(&pooled, embedding));
    Ok(look)
}
