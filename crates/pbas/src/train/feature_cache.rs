//! Features of the training pictures, and of their changed copies if any are wanted, computed once: the backbone is frozen.
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

use super::augment::changed;
use super::observer::Observer;
use super::sweep::{BLOCK, each};
use super::trainer::{Stream, stream};
use crate::backbone::hex;
use crate::doctor::Look;
use crate::doctor::features::whole_picture;
use crate::features::{ExtractScratch, Extractor, to_half};
use crate::image::{DecodeOptions, Rgb8, read_rgb_and_bytes};
use crate::patch::PatchEmbedding;
use crate::roi::{Positions, Roi};
use crate::settings::Augment;
use crate::{Error, ErrorKind, Result};

/// Cached features of the pictures that could be read.
#[derive(Debug)]
pub struct FeatureCache {
    views: Vec<CachedView>,
    /// Place in the list of each readable picture, in its order.
    slots: Vec<usize>,
    /// Changed copies of each picture.
    copies: usize,
}

/// A pass over pictures, to be made.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// The list.
    pub pictures: &'a [PathBuf],
    /// One for each view.
    pub extractors: &'a [&'a Extractor],
    /// Region of interest; everywhere if `None`.
    pub roi: Option<&'a Roi>,
    /// How pictures are decoded.
    pub decode: &'a DecodeOptions,
    /// Which changed copies are cached beside the pictures, and the seed of their changes.
    pub augment: Option<(Augment, u64)>,
    /// Bytes that stay in memory; what goes beyond lies in a temporary file.
    pub memory_limit: u64,
    /// Folder of that file, or the system's.
    pub temp_dir: Option<&'a Path>,
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
    /// Reads every picture once and extracts its features, and those of its copies, at every size.
    ///
    /// # Errors
    /// No readable picture, a region of interest in which no patch of a view lies, no room for the temporary file, or an interrupt.
    pub fn fill(pass: &Pass<'_>, observer: &dyn Observer) -> Result<(Self, Survey)> {
        let Pass { pictures, extractors, roi, temp_dir, .. } = *pass;
        let copies = pass.augment.map_or(0, |(augment, _)| augment.copies());
        let mut left = pass.memory_limit;
        let mut views = Vec::new();
        for extractor in extractors {
            let embedding = extractor.embedding().clone();
            let pooled_len = embedding.pooled_len();
            let positions = Positions::of(roi, &extractor.geometry(), embedding.grid())?;
            let total = pooled_len.checked_mul(pictures.len() * (1 + copies)).ok_or_else(|| {
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
            let chunks = view.store.as_mut_slice().chunks_exact_mut(view.pooled_len * (1 + copies));
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
            match extract_one(pass, i, scratch, room) {
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
        Ok((Self { views, slots, copies }, Survey { skipped, digest: hex(&all.finalize()), looks }))
    }

    /// Readable pictures.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.slots.len()
    }

    /// Pictures and their copies: copy `c` of picture `p` is entry `p + c pictures()`, and `p` itself is copy 0.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.slots.len() * (1 + self.copies)
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

    /// The patch feature of one position of one entry.
    pub fn gather(
        &self,
        view: usize,
        entry: usize,
        position: usize,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        self.views[view].embedding.gather_f16(self.stored(view, entry), position, out, scratch);
    }

    /// The pooled values of an entry.
    fn stored(&self, view: usize, entry: usize) -> &[f16] {
        let v = &self.views[view];
        let (picture, copy) = (entry % self.slots.len(), entry / self.slots.len());
        &v.store.as_slice()[(self.slots[picture] * (1 + self.copies) + copy) * v.pooled_len..][..v.pooled_len]
    }

    /// All patch features of one entry that are trained on, `[positions, dim]`.
    pub fn gather_all(&self, view: usize, entry: usize, out: &mut [f32], threads: Threads) {
        let CachedView { embedding, positions, .. } = &self.views[view];
        let dim = embedding.dim();
        each(threads, out.chunks_mut(BLOCK * dim), |block, rows| {
            let mut scratch = Vec::new();
            for (i, row) in (block * BLOCK..).zip(rows.chunks_exact_mut(dim)) {
                self.gather(view, entry, positions.nth(i), row, &mut scratch);
            }
        });
    }

    /// The pooled values of one entry ([`PatchEmbedding::pool`]), widened into `out`.
    pub fn pooled(&self, view: usize, entry: usize, out: &mut Vec<f32>) {
        out.resize(self.views[view].pooled_len, 0.0);
        self.stored(view, entry).convert_to_f32_slice(out);
    }
}

/// Reads one file, fills its room in every view, its own and that of its copies, and looks at it.
fn extract_one(
    pass: &Pass<'_>,
    listed: usize,
    scratch: &mut [ExtractScratch],
    room: &mut [&mut [f16]],
) -> Result<Look> {
    let (picture, bytes) = read_rgb_and_bytes(&pass.pictures[listed], pass.decode)?;
    let seen = |picture: Rgb8| match pass.roi {
        Some(roi) => roi.paint(&picture),
        None => Ok(picture),
    };
    // What is moved into a region of interest is what lay outside of it, not paint.
    let copies = pass.augment.map_or(0, |(augment, _)| augment.copies());
    for copy in 1..=copies {
        let Some((augment, seed)) = pass.augment else { break };
        let mut rng = stream(seed, Stream::Augment, copy, 0, listed as u64);
        fill_room(pass, &seen(changed(&picture, augment, &mut rng)?)?, copy, scratch, room)?;
    }
    let picture = seen(picture)?;
    let mut look = Look::at(&bytes, &picture, false)?;
    let last = fill_room(pass, &picture, 0, scratch, room)?;
    look.features = last.map(|(pooled, embedding)| whole_picture(&pooled, embedding));
    Ok(look)
}

/// Fills the room of a picture or of one of its copies in every view; returns the features of the last one.
fn fill_room<'a>(
    pass: &Pass<'a>,
    picture: &Rgb8,
    copy: usize,
    scratch: &mut [ExtractScratch],
    room: &mut [&mut [f16]],
) -> Result<Option<(Vec<f32>, &'a PatchEmbedding)>> {
    let mut last = None;
    for ((extractor, scratch), out) in pass.extractors.iter().zip(scratch).zip(room) {
        let (pooled, _) = extractor.extract(picture, scratch, Threads::One)?;
        let len = extractor.embedding().pooled_len();
        to_half(&pooled, &mut out[copy * len..][..len])?;
        last = Some((pooled, extractor.embedding()));
    }
    Ok(last)
}
