//! A small picture set rendered from a seed: machined steel washers on a conveyor, good ones and ones with a
//! scratch, a dent, a stain or a piece of chamfer missing, with exact masks.
//!
//! Data flow: `scene` (what is there) -> `shade` with `defect` (light) -> `camera` (grey levels) ->
//! `set` (files). The same seed gives the same bytes on every platform (see `maths`).

mod camera;
mod defect;
mod maths;
mod scene;
mod set;
mod shade;

use crate::image::{DefectMask, Rgb8};
use defect::Defect;
use maths::Draw;
use scene::{SIDE, Scene};

pub use set::{DemoSet, MARKER, write_set};

/// Change in grey levels from which on a pixel counts as defective.
const MATERIAL: f32 = 4.0;
/// Streams of the picture's random numbers: apart, so that a defect changes neither the part nor the noise.
const SCENE_STREAM: u64 = 0;
const DEFECT_STREAM: u64 = 1;
const NOISE_STREAM: u64 = 2;

/// What a demo picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DemoKind {
    /// A good washer.
    Good,
    /// A thin curved line, 20 to 95 pixels long.
    Scratch,
    /// A round hollow, 5 to 14 pixels in radius.
    Dent,
    /// A soft, slightly tinted blotch.
    Stain,
    /// The outer or inner chamfer was not cut along 60 to 110 degrees; the rim keeps the skin of the blank.
    MissingChamfer,
}

impl DemoKind {
    /// All kinds that are defects.
    pub const DEFECTS: [Self; 4] = [Self::Scratch, Self::Dent, Self::Stain, Self::MissingChamfer];

    /// The name of the kind's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Scratch => "scratch",
            Self::Dent => "dent",
            Self::Stain => "stain",
            Self::MissingChamfer => "missing_chamfer",
        }
    }
}

/// A rendered picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoPicture {
    /// The picture, 320 x 320.
    pub picture: Rgb8,
    /// Where the defect changed the picture; `None` for a good part.
    pub mask: Option<DefectMask>,
}

/// Renders one picture. The part, its pose, the light and the noise depend on `seed` alone, so pictures of
/// different kinds with one seed show the same part with and without the defect.
///
/// The mask holds the pixels that the defect changed by at least 4 of 255 grey levels in some channel before
/// noise; holes and slits up to 4 pixels wide inside it (where a dent turns from bright to dark) are closed.
/// A defect that the light would all but hide is made stronger until it shows.
pub fn render(kind: DemoKind, seed: u64) -> DemoPicture {
    let scene = Scene::draw(&mut Draw::new(seed, SCENE_STREAM));
    let radiance = scene.radiance();
    let mut levels = scene.camera.develop(&radiance);
    let mask = spoil(kind, seed, &scene, &radiance, &mut levels);
    let data = scene.camera.expose(&levels, &mut Draw::new(seed, NOISE_STREAM));
    DemoPicture { picture: Rgb8 { width: SIDE, height: SIDE, data }, mask }
}

/// Puts the defect into `levels` and returns its mask.
fn spoil(
    kind: DemoKind,
    seed: u64,
    scene: &Scene,
    radiance: &[[f32; 3]],
    levels: &mut Vec<[f32; 3]>,
) -> Option<DefectMask> {
    let mut push = 1.0;
    loop {
        let defect = Defect::draw(kind, scene, &mut Draw::new(seed, DEFECT_STREAM), push)?;
        let mut spoiled = radiance.to_vec();
        for (i, pixel) in spoiled.iter_mut().enumerate() {
            let (column, row) = (i % SIDE, i / SIDE);
            if defect.touches(&scene.point(column, row)) {
                *pixel = scene.pixel(column, row, Some(&defect));
            }
        }
        let developed = scene.camera.develop(&spoiled);
        let changed: Vec<bool> = levels
            .iter()
            .zip(&developed)
            .map(|(a, b)| a.iter().zip(b).any(|(a, b)| (a - b).abs() >= MATERIAL))
            .collect();
        let area = changed.iter().filter(|c| **c).count() as f32;
        if area >= 0.5 * defect.nominal_area(&scene.part) || push > 3.0 {
            *levels = developed;
            let closed = close(&changed);
            let data = closed.into_iter().map(u8::from).collect();
            return Some(DefectMask { width: SIDE, height: SIDE, data });
        }
        push *= 1.25;
    }
}

/// Morphological closing with a square of 5 x 5: grows by two pixels, then shrinks by two.
fn close(set: &[bool]) -> Vec<bool> {
    const REACH: isize = 2;
    let side = SIDE as isize;
    // `any` over the neighbours of each pixel along one axis; outside the picture nothing is set.
    let sweep = |from: &[bool], dx: isize, dy: isize| -> Vec<bool> {
        (0..side * side)
            .map(|i| {
                (-REACH..=REACH).any(|k| {
                    let (x, y) = (i % side + k * dx, i / side + k * dy);
                    (0..side).contains(&x) && (0..side).contains(&y) && from[(y * side + x) as usize]
                })
            })
            .collect()
    };
    let grown = sweep(&sweep(set, 1, 0), 0, 1);
    let outside: Vec<bool> = grown.iter().map(|v| !v).collect();
    sweep(&sweep(&outside, 1, 0), 0, 1).into_iter().map(|v| !v).collect()
}
