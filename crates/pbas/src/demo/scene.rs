//! What is in front of the camera: the washer and its machining, the lights, the belt, the pose. All of it is
//! drawn from the picture's seed, in a fixed order.

use super::maths::{Draw, Grain, cos_turns, sin_turns};

/// Side of a demo picture in pixels.
pub(super) const SIDE: usize = 320;
/// Entries of a radial table per pixel.
const TABLE_STEP: f32 = 8.0;
/// Largest radius that the tables cover, in pixels.
const TABLE_RADIUS: f32 = 132.0;

/// One washer. Lengths in pixels at scale 1; slopes are height per length.
pub(super) struct Part {
    pub(super) outer: f32,
    pub(super) inner: f32,
    pub(super) outer_chamfer: f32,
    pub(super) inner_chamfer: f32,
    /// Slope of both chamfers.
    pub(super) chamfer_slope: f32,
    /// Roughness along the lathe marks (small: narrow bow-tie) and across them.
    pub(super) along: f32,
    pub(super) across: f32,
    pub(super) tint: [f32; 3],
    /// Fine arcs left by the tool, as a field over (radius, angle).
    pub(super) arcs: Grain,
    /// Where the arcs' angle begins, in turns: the rotation of the part.
    pub(super) rotation: f32,
    slope: Vec<f32>,
    reflectance: Vec<f32>,
}

/// A distant light.
pub(super) struct Light {
    /// Unit vector towards the light: x right, y down, z to the camera.
    pub(super) towards: [f32; 3],
    /// Half vector between light and camera.
    pub(super) half: [f32; 3],
    pub(super) strength: f32,
}

/// The conveyor under the part.
pub(super) struct Belt {
    pub(super) grain: Grain,
    pub(super) shift: [f32; 2],
    pub(super) colour: [f32; 3],
    /// Lint: x, y, radius, brightness.
    pub(super) lint: Vec<[f32; 4]>,
}

/// Lens and sensor.
pub(super) struct Camera {
    pub(super) exposure: f32,
    pub(super) white: [f32; 3],
    pub(super) blur: f32,
    /// Light lost in the corners.
    pub(super) vignette: f32,
    /// Standard deviation of the noise in grey levels.
    pub(super) noise: f32,
}

pub(super) struct Scene {
    pub(super) part: Part,
    pub(super) lights: [Light; 2],
    pub(super) ambient: f32,
    pub(super) belt: Belt,
    pub(super) camera: Camera,
    /// Centre of the part in the picture.
    pub(super) centre: [f32; 2],
    pub(super) scale: f32,
}

impl Scene {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let middle = SIDE as f32 / 2.0;
        let centre = [middle + draw.between(-9.0, 9.0), middle + draw.between(-9.0, 9.0)];
        let scale = draw.between(0.98, 1.02);
        let part = Part::draw(draw);
        // The lamp stands upper left of the line; it is knocked about a little, and a wall gives a weak fill.
        let azimuth = draw.between(0.6, 0.68);
        let key = Light::new(azimuth, draw.between(0.122, 0.142), draw.between(0.9, 1.1));
        let fill_azimuth = azimuth + draw.between(0.23, 0.31);
        let fill = Light::new(fill_azimuth, draw.between(0.13, 0.16), draw.between(0.24, 0.38));
        let ambient = draw.between(0.9, 1.1);
        let belt = Belt::draw(draw);
        let camera = Camera {
            exposure: draw.between(0.96, 1.04),
            white: [draw.between(0.985, 1.015), 1.0, draw.between(0.985, 1.015)],
            blur: draw.between(0.5, 0.9),
            vignette: draw.between(0.1, 0.2),
            noise: draw.between(1.3, 2.0),
        };
        Self { part, lights: [key, fill], ambient, belt, camera, centre, scale }
    }
}

impl Light {
    /// From azimuth and elevation in turns.
    fn new(azimuth: f32, elevation: f32, strength: f32) -> Self {
        let flat = cos_turns(elevation);
        let towards = [flat * cos_turns(azimuth), flat * sin_turns(azimuth), sin_turns(elevation)];
        let up = towards[2] + 1.0;
        let length = (towards[0] * towards[0] + towards[1] * towards[1] + up * up).sqrt();
        Self { towards, half: [towards[0] / length, towards[1] / length, up / length], strength }
    }

    /// Unit direction of the light in the picture plane.
    pub(super) fn azimuth(&self) -> [f32; 2] {
        let [x, y, _] = self.towards;
        let length = (x * x + y * y).sqrt();
        [x / length, y / length]
    }
}

impl Belt {
    fn draw(draw: &mut Draw) -> Self {
        let grain = Grain(draw.bits());
        let shift = [draw.between(0.0, 4096.0), draw.between(0.0, 4096.0)];
        let dark = draw.between(0.85, 1.15);
        let colour = [0.031 * dark, 0.033 * dark, 0.0365 * dark];
        let count = 2 + (draw.unit() * 7.0) as usize;
        let side = SIDE as f32;
        let lint = (0..count)
            .map(|_| {
                [
                    draw.between(0.0, side),
                    draw.between(0.0, side),
                    draw.between(0.5, 1.3),
                    draw.between(0.02, 0.09),
                ]
            })
            .collect();
        Self { grain, shift, colour, lint }
    }
}

impl Part {
    fn draw(draw: &mut Draw) -> Self {
        let outer = draw.between(117.2, 118.8);
        let inner = draw.between(56.2, 57.8);
        let (outer_chamfer, inner_chamfer) = (draw.between(6.8, 7.8), draw.between(5.8, 6.6));
        let chamfer_slope = draw.between(0.6, 0.7);
        let (along, across) = (draw.between(0.14, 0.18), draw.between(0.32, 0.37));
        let warm = draw.between(-0.012, 0.02);
        let tint = [1.0 + warm, 1.0, 0.985 - warm];
        let (slope, reflectance) = marks(draw);
        let arcs = Grain(draw.bits());
        let rotation = draw.unit();
        Self {
            outer,
            inner,
            outer_chamfer,
            inner_chamfer,
            chamfer_slope,
            along,
            across,
            tint,
            arcs,
            rotation,
            slope,
            reflectance,
        }
    }

    /// Radial slope of the lathe marks and their reflectance at a radius.
    pub(super) fn marks(&self, radius: f32) -> (f32, f32) {
        let at = (radius * TABLE_STEP).clamp(0.0, (self.slope.len() - 2) as f32);
        let i = at as usize;
        let t = at - i as f32;
        let between = |table: &[f32]| table[i] + (table[i + 1] - table[i]) * t;
        (between(&self.slope), between(&self.reflectance))
    }
}

/// The lathe marks of one part: a feed pattern whose period and depth wander, finer scratches of the tool, and
/// broad bands of reflectance. Averaged over a pixel, as a sensor does (else a fine pattern would beat).
fn marks(draw: &mut Draw) -> (Vec<f32>, Vec<f32>) {
    let entries = (TABLE_RADIUS * TABLE_STEP) as usize;
    let (wander, fine, bands) = (Grain(draw.bits()), Grain(draw.bits()), Grain(draw.bits()));
    let (period, phase) = (draw.between(3.0, 4.2), draw.unit());
    let (feed, scratch, band) =
        (draw.between(0.025, 0.045), draw.between(0.045, 0.075), draw.between(0.03, 0.07));
    let mut slope = Vec::with_capacity(entries);
    let mut reflectance = Vec::with_capacity(entries);
    for i in 0..entries {
        let r = i as f32 / TABLE_STEP;
        let turns = r / period + phase + 0.5 * wander.at(r / 17.0, 0.5);
        let depth = 0.7 + 0.6 * wander.at(r / 9.0, 7.5);
        let tool = fine.at(r / 0.8, 0.5) + 0.7 * fine.at(r / 1.9, 3.5);
        slope.push(feed * depth * sin_turns(turns) + scratch * tool + 0.03 * bands.at(r / 11.0, 9.5));
        let broad = bands.at(r / 14.0, 0.5) + 0.6 * bands.at(r / 4.5, 5.5);
        reflectance.push(1.0 + band * broad + 0.05 * fine.at(r / 0.9, 8.5));
    }
    (pixel_mean(&slope), pixel_mean(&reflectance))
}

fn pixel_mean(table: &[f32]) -> Vec<f32> {
    let reach = TABLE_STEP as usize / 2;
    (0..table.len())
        .map(|i| {
            let window = &table[i.saturating_sub(reach)..(i + reach + 1).min(table.len())];
            window.iter().sum::<f32>() / window.len() as f32
        })
        .collect()
}
