//! One head: batches drawn from the cache, steps, averaging, checkpoints.

use std::time::{Duration, Instant};

use pbas_nn::linalg::Threads;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::centers::Centers;
use super::checkpoint::Checkpoints;
use super::feature_cache::FeatureCache;
use super::observer::Observer;
use super::step::{BatchCenters, BatchSynthesis, HeadTrainer, Rates, project};
use crate::head::{CenterDistance, FeatureScale, Head, ScaleSums};
use crate::settings::{Batch, CenterRule, HeadSettings, Length, Synthesis};
use crate::{Error, ErrorKind, Result};

/// Time between two checkpoints of a head.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);
/// Patches from which the feature scale of a view is taken.
const SCALE_SAMPLE: usize = 20_000;

/// Pictures that are projected at a time before training, unless a batch says how many.
const ALIGNED_AT_ONCE: usize = 8;

/// What a random stream is for; streams of one run never share numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    /// Dealing pictures into folds.
    Deal,
    /// Patches for the feature scale of a view.
    Scale,
    /// Initial values of a head.
    Initial,
    /// Order of the pictures in an epoch.
    Epoch,
    /// Patches, centres and synthesis scales of a step.
    Step,
    /// Patches that are remembered.
    Neighbours,
    /// Changes of copies.
    Augment,
    /// Centres of a head without discriminator that are random patches.
    Centers,
}

/// A generator that depends on nothing but its arguments: what a step draws does not depend on the steps before,
/// so a resumed run draws the same.
pub(super) fn stream(seed: u64, kind: Stream, view: usize, head: usize, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (slot, value) in
        key.chunks_exact_mut(8).zip([seed, kind as u64, (view as u64) << 32 | head as u64, index])
    {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Everything a head needs to train.
pub(super) struct HeadJob<'a> {
    pub cache: &'a FeatureCache,
    pub settings: &'a HeadSettings,
    pub view: usize,
    pub head: usize,
    /// Pictures it may see.
    pub pictures: &'a [usize],
    pub seed: u64,
    pub checkpoints: Option<&'a Checkpoints>,
    pub resume: bool,
    pub threads: Threads,
}

/// Mean and deviation of each entry over a sample of the patches of the pictures that the head may see.
fn feature_scale(job: &HeadJob<'_>) -> FeatureScale {
    let HeadJob { cache, view, pictures, .. } = *job;
    let (dim, positions) = (cache.embedding(view).dim(), cache.positions(view));
    let mut rng = stream(job.seed, Stream::Scale, view, job.head, 0);
    let (mut row, mut scratch, mut sums) = (vec![0.0f32; dim], Vec::new(), ScaleSums::new(dim));
    for _ in 0..SCALE_SAMPLE {
        let picture = pictures[rng.random_range(0..pictures.len())];
        let position = positions.nth(rng.random_range(0..positions.count()));
        cache.gather(view, picture, position, &mut row, &mut scratch);
        sums.add(&row);
    }
    sums.scale()
}

impl HeadJob<'_> {
    /// Steps of an epoch.
    fn epoch_steps(&self) -> u64 {
        let work = match self.settings.batch {
            Batch::Pictures(n) => self.pictures.len().div_ceil(n),
            Batch::Patches(n) => (self.pictures.len() * self.cache.positions(self.view).count()).div_ceil(n),
        };
        work as u64
    }

    /// Steps of the whole training.
    pub(super) fn total_steps(&self) -> u64 {
        self.settings.length.steps(self.epoch_steps())
    }

    /// Trains the head.
    ///
    /// # Errors
    /// An interrupt (the state is then in the checkpoint), a checkpoint that cannot be written or is of another run,
    /// or a loss that is not a number.
    pub(super) fn run(&self, observer: &dyn Observer) -> Result<Head> {
        let dim = self.cache.embedding(self.view).dim();
        let mut rng = stream(self.seed, Stream::Initial, self.view, self.head, 0);
        let mut initial = Head::initial(dim, self.settings.hidden, &mut rng);
        initial.feature_scale = self.settings.standardize.then(|| feature_scale(self));
        let scale = initial.feature_scale.clone();
        let scale = scale.as_ref();
        let centers = match self.settings.centers {
            CenterRule::Positions => Some(self.aligned_centers(&initial, scale)),
            CenterRule::Mean => Some(self.mean_center(&initial, scale)),
            CenterRule::Neighbours(_) => None,
        };
        let mut average = self.settings.averaging.map(|_| initial.clone());
        let mut trainer = HeadTrainer::new(initial);
        if let (Some(checkpoints), true) = (self.checkpoints, self.resume)
            && checkpoints.load(self.view, self.head, &mut trainer, &mut average)?
        {
            observer.advance(trainer.steps);
        }
        let total = self.total_steps();
        let mut saved = Instant::now();
        let mut batch = StepBatch::default();
        while trainer.steps < total {
            let step = trainer.steps;
            self.draw(step, &mut batch);
            if let Some(scale) = scale {
                scale.apply(&mut batch.features);
            }
            let source = match &centers {
                Some(c) => BatchCenters::Fixed(c),
                None => BatchCenters::Neighbours { candidates: self.candidates(), identity: &batch.identity },
            };
            let synthesis = match self.settings.synthesis {
                _ if !self.settings.refinement => BatchSynthesis::Nowhere,
                Synthesis::Rays => BatchSynthesis::Rays(&batch.scales),
                Synthesis::Noise(_) => BatchSynthesis::Offsets(&batch.noise),
            };
            let rates = self.rates(step, total);
            let losses = trainer.step(&batch.features, source, synthesis, rates, self.threads);
            if !(losses.boundary + losses.refinement).is_finite() {
                return Err(Error::input(format!(
                    "training left the numbers at step {step}: boundary loss {}, refinement loss {}",
                    losses.boundary, losses.refinement
                )));
            }
            if let (Some(average), Some(decay)) = (&mut average, self.settings.averaging) {
                fold_into_average(average, &mut trainer.head, decay, step);
            }
            if let Length::Epochs(epochs) = self.settings.length
                && trainer.steps.is_multiple_of(self.epoch_steps())
            {
                let kept = average.as_ref().unwrap_or(&trainer.head);
                let epoch = trainer.steps / self.epoch_steps();
                match self.by_distance(kept, centers.as_ref()) {
                    None => observer.epoch(epoch, epochs, kept)?,
                    distance => observer.epoch(epoch, epochs, &Head { distance, ..kept.clone() })?,
                }
            }
            observer.advance(1);
            let stop = observer.interrupted();
            let due = stop || trainer.steps == total || saved.elapsed() > CHECKPOINT_EVERY;
            if let (Some(checkpoints), true) = (self.checkpoints, due) {
                checkpoints.save(self.view, self.head, &trainer, average.as_ref())?;
                saved = Instant::now();
            }
            if stop && trainer.steps < total {
                return Err(Error::new(ErrorKind::Interrupted, "training was stopped"));
            }
        }
        let kept = average.unwrap_or(trainer.head);
        let distance = self.by_distance(&kept, centers.as_ref());
        Ok(Head { distance, ..kept })
    }

    /// What scores in place of the discriminator, where none is trained: the centres that training has used (of neighbours, which are random
    /// patches, as many random patches by the projection as it is now), and the mean radius of some pictures.
    fn by_distance(&self, head: &Head, centers: Option<&Centers>) -> Option<CenterDistance> {
        if self.settings.refinement {
            return None;
        }
        let scaled = |mut features: Vec<f32>| {
            if let Some(scale) = &head.feature_scale {
                scale.apply(&mut features);
            }
            head.projection.apply(&features, self.threads)
        };
        let by_cosine = !matches!(self.settings.centers, CenterRule::Neighbours(_));
        let centers = centers.cloned().unwrap_or_else(|| {
            let mut batch = StepBatch::default();
            let mut rng = stream(self.seed, Stream::Centers, self.view, self.head, 0);
            self.random_patches(self.candidates(), &mut rng, &mut batch);
            Centers { dim: head.projection.dim, data: scaled(batch.features) }
        });
        let mut distance = CenterDistance { centers, by_cosine, radius: 1.0 };
        let mut features = Vec::new();
        self.whole_pictures(&self.pictures[..self.pictures.len().min(ALIGNED_AT_ONCE)], &mut features);
        let distances = distance.distances(&scaled(features), self.threads);
        let mean = distances.iter().sum::<f32>() / distances.len() as f32;
        distance.radius = mean.max(f32::MIN_POSITIVE);
        Some(distance)
    }

    fn candidates(&self) -> usize {
        match self.settings.centers {
            CenterRule::Neighbours(n) => n,
            CenterRule::Positions | CenterRule::Mean => 0,
        }
    }

    fn rates(&self, step: u64, total: u64) -> Rates {
        let s = self.settings;
        let fall = if s.cosine {
            (0.5 * (1.0 + (std::f64::consts::PI * step as f64 / total as f64).cos())) as f32
        } else {
            1.0
        };
        Rates {
            projection: s.projection_rate * fall,
            discriminator: s.discriminator_rate * fall,
            projection_decay: s.projection_decay,
            discriminator_decay: s.discriminator_decay,
            boundary_weight: s.boundary_weight,
        }
    }

    /// Feature alignment over the pictures once, in order, in batches (algorithm.md, section 3).
    fn aligned_centers(&self, initial: &Head, scale: Option<&FeatureScale>) -> Centers {
        let mut centers = None::<Centers>;
        self.each_projected(initial, scale, |projected, pictures| {
            let mean = Centers::batch_mean(projected, pictures, initial.projection.dim);
            match &mut centers {
                None => centers = Some(mean),
                Some(c) => c.align(&mean, self.settings.center_momentum, self.threads),
            }
        });
        centers.expect("a head trains on at least one picture")
    }

    /// One centre: the mean of all patches.
    fn mean_center(&self, initial: &Head, scale: Option<&FeatureScale>) -> Centers {
        let dim = initial.projection.dim;
        let (mut sum, mut rows) = (vec![0.0f64; dim], 0);
        self.each_projected(initial, scale, |projected, _| {
            for row in projected.chunks_exact(dim) {
                sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
            }
            rows += projected.len() / dim;
        });
        Centers { dim, data: sum.iter().map(|s| (s / rows as f64) as f32).collect() }
    }

    /// All patches as the projection begins, in batches of whole pictures: `[pictures, positions, dim]` and how many pictures.
    fn each_projected(
        &self,
        initial: &Head,
        scale: Option<&FeatureScale>,
        mut each: impl FnMut(&[f32], usize),
    ) {
        let size = match self.settings.batch {
            Batch::Pictures(n) => n,
            Batch::Patches(_) => ALIGNED_AT_ONCE,
        };
        let (mut features, mut projected) = (Vec::new(), Vec::new());
        for pictures in self.pictures.chunks(size) {
            self.whole_pictures(pictures, &mut features);
            if let Some(scale) = scale {
                scale.apply(&mut features);
            }
            projected.resize(features.len(), 0.0);
            project(&mut projected, &initial.projection, &features, self.threads);
            each(&projected, pictures.len());
        }
    }

    /// All patches of some pictures, `[pictures * positions, dim]`.
    fn whole_pictures(&self, pictures: &[usize], features: &mut Vec<f32>) {
        let len = self.cache.positions(self.view).count() * self.cache.embedding(self.view).dim();
        features.resize(pictures.len() * len, 0.0);
        for (&picture, out) in pictures.iter().zip(features.chunks_exact_mut(len)) {
            self.cache.gather_all(self.view, picture, out, self.threads);
        }
    }

    /// What step `step` works on; features not yet on scale.
    fn draw(&self, step: u64, batch: &mut StepBatch) {
        let mut rng = stream(self.seed, Stream::Step, self.view, self.head, step);
        let positions = self.cache.positions(self.view).count();
        match self.settings.batch {
            Batch::Pictures(size) => {
                let (epoch, part) = (step / self.epoch_steps(), (step % self.epoch_steps()) as usize);
                let mut order = self.pictures.to_vec();
                order.shuffle(&mut stream(self.seed, Stream::Epoch, self.view, self.head, epoch));
                let pictures = &order[part * size..order.len().min((part + 1) * size)];
                self.whole_pictures(pictures, &mut batch.features);
                let each = |&p: &usize| (0..positions).map(move |i| (p * positions + i) as u64);
                batch.identity = pictures.iter().flat_map(each).collect();
            }
            Batch::Patches(n) => {
                self.random_patches(n, &mut rng, batch);
            }
        }
        match self.settings.synthesis {
            _ if !self.settings.refinement => {}
            Synthesis::Rays => {
                let [low, high] = self.settings.synthesis_scale;
                let rows = 0..batch.identity.len();
                batch.scales.clear();
                batch.scales.extend(rows.map(|_| low + (high - low) * rng.random::<f32>()));
            }
            Synthesis::Noise(sigma) => {
                let normal = Normal::new(0.0, sigma).expect("a positive, finite deviation");
                batch.noise.resize(batch.features.len(), 0.0);
                batch.noise.iter_mut().for_each(|v| *v = normal.sample(&mut rng));
            }
        }
    }

    fn random_patches(&self, n: usize, rng: &mut ChaCha8Rng, batch: &mut StepBatch) {
        let embedding = self.cache.embedding(self.view);
        let (dim, positions) = (embedding.dim(), self.cache.positions(self.view));
        batch.features.resize(n * dim, 0.0);
        batch.identity.clear();
        for row in batch.features.chunks_exact_mut(dim) {
            let picture = self.pictures[rng.random_range(0..self.pictures.len())];
            let position = positions.nth(rng.random_range(0..positions.count()));
            self.cache.gather(self.view, picture, position, row, &mut batch.scratch);
            batch.identity.push((picture * embedding.positions() + position) as u64);
        }
    }
}

/// What a step works on; the buffers are kept from step to step.
#[derive(Debug, Default)]
struct StepBatch {
    /// `[n, dim]`.
    features: Vec<f32>,
    /// Which patch each row is.
    identity: Vec<u64>,
    /// Synthesis scales, `[n]`.
    scales: Vec<f32>,
    /// Differences of synthetic anomalies, `[n, dim]`, where they are noise.
    noise: Vec<f32>,
    scratch: Vec<f32>,
}

/// `average <- decay average + (1 - decay) head` for every tensor, running statistics included; the first steps
/// count less, so that the initial values are forgotten.
fn fold_into_average(average: &mut Head, head: &mut Head, decay: f32, step: u64) {
    let decay = decay.min((1.0 + step as f32) / (10.0 + step as f32));
    for (a, h) in average.tensors_mut().into_iter().zip(head.tensors_mut()) {
        a.iter_mut().zip(h.iter()).for_each(|(a, h)| *a += (1.0 - decay) * (h - *a));
    }
}
