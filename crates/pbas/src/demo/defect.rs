//! The four defects, as changes of the surface (never painted over the picture, so that they react to the light).

use super::DemoKind;
use super::maths::{Draw, Grain, angle_turns, cos_turns, decay, sin_turns, smoothstep};
use super::scene::{Part, Scene};
use super::shade::{Point, Surface};

/// Straight pieces of a scratch.
const PIECES: usize = 20;

/// One defect. Lengths in part pixels.
pub(super) enum Defect {
    Scratch {
        path: Vec<[f32; 2]>,
        width: f32,
        strength: f32,
        pressure: Grain,
    },
    Dent {
        centre: [f32; 2],
        radius: f32,
        squash: [f32; 2],
        slope: f32,
    },
    Stain {
        centre: [f32; 2],
        radius: f32,
        squash: [f32; 2],
        strength: f32,
        tint: [f32; 3],
        grain: Grain,
    },
    /// `edge` is the radius at which the chamfer would begin, `skin` how dark the uncut rim is.
    MissingChamfer {
        outer: bool,
        centre: [f32; 2],
        half: f32,
        edge: f32,
        skin: f32,
        grain: Grain,
    },
}

impl Defect {
    /// Draws the defect of a `kind`; `push` (1 or more) makes it stronger where it would otherwise be lost in
    /// the dark. `None` for good parts.
    pub(super) fn draw(kind: DemoKind, scene: &Scene, draw: &mut Draw, push: f32) -> Option<Self> {
        let part = &scene.part;
        match kind {
            DemoKind::Good => None,
            DemoKind::Scratch => Some(Self::scratch(part, draw, push)),
            DemoKind::Dent => {
                let radius = draw.between(5.0, 14.0);
                let centre = on_face(part, draw, radius);
                Some(Self::Dent {
                    centre,
                    radius,
                    squash: squash(draw, 0.15),
                    slope: push * draw.between(0.1, 0.22),
                })
            }
            DemoKind::Stain => {
                let radius = draw.between(13.0, 26.0);
                let centre = on_face(part, draw, 0.7 * radius);
                let strength = (push * draw.between(0.2, 0.4)).min(0.8);
                let tint = if draw.flip() { [0.72, 0.95, 1.3] } else { [1.2, 1.0, 0.78] };
                let grain = Grain(draw.bits());
                Some(Self::Stain { centre, radius, squash: squash(draw, 0.35), strength, tint, grain })
            }
            DemoKind::MissingChamfer => {
                let outer = draw.unit() < 0.65;
                let half = draw.between(60.0, 110.0) / 720.0;
                // Anywhere within 80 degrees of where this chamfer faces the lamp: away from the lamp it is
                // dark, and one could not see that it is missing.
                let [x, y] = scene.lights[0].azimuth();
                let bright = angle_turns(x, y) + if outer { 0.0 } else { 0.5 };
                let turns = bright + draw.between(-0.22, 0.22) / push;
                let centre = [cos_turns(turns), sin_turns(turns)];
                let edge =
                    if outer { part.outer - part.outer_chamfer } else { part.inner + part.inner_chamfer };
                let skin = (push * draw.between(0.26, 0.44)).min(0.6);
                Some(Self::MissingChamfer { outer, centre, half, edge, skin, grain: Grain(draw.bits()) })
            }
        }
    }

    fn scratch(part: &Part, draw: &mut Draw, push: f32) -> Self {
        let mut length = draw.between(40.0, 95.0);
        let width = draw.between(1.0, 1.45);
        let strength = push * draw.between(1.0, 1.6);
        let pressure = Grain(draw.bits());
        let (low, high) = (part.inner + part.inner_chamfer + 3.0, part.outer - part.outer_chamfer - 3.0);
        loop {
            let [x, y] = on_face(part, draw, 4.0);
            let [dx, dy] = draw.direction();
            let bend = draw.between(-0.16, 0.16) * length;
            let path: Vec<[f32; 2]> = (0..=PIECES)
                .map(|i| {
                    let t = i as f32 / PIECES as f32;
                    let (run, rise) = ((t - 0.5) * length, 4.0 * t * (1.0 - t) * bend);
                    [x + run * dx - rise * dy, y + run * dy + rise * dx]
                })
                .collect();
            let fits = path.iter().all(|p| {
                let radius = (p[0] * p[0] + p[1] * p[1]).sqrt();
                radius > low && radius < high
            });
            // The face is nearly 40 pixels wide between these bounds: a short enough scratch soon finds a place.
            if fits || length < 20.0 {
                return Self::Scratch { path, width, strength, pressure };
            }
            length = (length * 0.985).max(19.9_f32.min(length));
        }
    }

    /// Area in pixels that should show the defect if it is well lit, as a yardstick for `push`.
    pub(super) fn nominal_area(&self, part: &Part) -> f32 {
        match self {
            Self::Scratch { path, .. } => {
                let (a, b) = (path[0], path[PIECES]);
                4.0 * ((b[0] - a[0]) * (b[0] - a[0]) + (b[1] - a[1]) * (b[1] - a[1])).sqrt()
            }
            Self::Dent { radius, .. } => 1.5 * radius * radius,
            Self::Stain { radius, .. } => 1.6 * radius * radius,
            Self::MissingChamfer { outer, half, .. } => {
                let (radius, width) =
                    if *outer { (part.outer, part.outer_chamfer) } else { (part.inner, part.inner_chamfer) };
                0.6 * radius * width * 2.0 * half * std::f32::consts::TAU
            }
        }
    }

    /// How much of the outer and of the inner chamfer is there at a point, 0..1.
    pub(super) fn chamfers(&self, point: &Point) -> [f32; 2] {
        let Self::MissingChamfer { outer, centre, half, .. } = self else { return [1.0; 2] };
        let along = point.away[0] * centre[0] + point.away[1] * centre[1];
        let beside = point.away[0] * centre[1] - point.away[1] * centre[0];
        let there = smoothstep(half - 0.006, half + 0.006, angle_turns(along, beside.abs()));
        if *outer { [there, 1.0] } else { [1.0, there] }
    }

    /// Whether the defect may change what is seen at a point.
    pub(super) fn touches(&self, point: &Point) -> bool {
        let near = |c: [f32; 2], reach: f32| (point.x - c[0]).abs() < reach && (point.y - c[1]).abs() < reach;
        match self {
            Self::Scratch { path, .. } => near(path[PIECES / 2], 70.0),
            Self::Dent { centre, radius, .. } => near(*centre, 1.4 * radius),
            Self::Stain { centre, radius, .. } => near(*centre, 2.6 * radius),
            Self::MissingChamfer { .. } => self.chamfers(point) != [1.0; 2],
        }
    }

    /// Changes the sound surface at a point.
    pub(super) fn change(&self, point: &Point, surface: &mut Surface) {
        match self {
            Self::Scratch { path, width, strength, pressure } => {
                let (distance, run) = to_path(point, path);
                if distance > 8.0 {
                    return;
                }
                let ends = smoothstep(0.0, 0.12, run) * (1.0 - smoothstep(0.88, 1.0, run));
                let force = strength * ends * (0.8 + 0.35 * pressure.at(run * 9.0, 0.5));
                let (core, rim) = (distance / width, (distance - 2.1 * width) / (0.85 * width));
                surface.scatter += 0.28 * force * decay(core * core);
                surface.albedo = surface.albedo.map(|a| a * (1.0 - 0.4 * force.min(1.5) * decay(rim * rim)));
            }
            Self::Dent { centre, radius, squash, slope } => {
                let (x, y, rho) = within(point, *centre, *radius, *squash);
                if rho < 1.0 && rho > 1e-3 {
                    // Height -(1 - rho^2)^2: its slope is (1 - rho^2) rho, at most 0.385.
                    let steep = slope * (1.0 - rho * rho) * rho / 0.385;
                    surface.slope[0] += steep * x / rho;
                    surface.slope[1] += steep * y / rho;
                }
            }
            Self::Stain { centre, radius, squash, strength, tint, grain } => {
                let (x, y, rho) = within(point, *centre, *radius, *squash);
                let ragged = 0.34 * grain.at(x * 1.4, y * 1.4) + 0.1 * grain.at(x * 4.3 + 50.0, y * 4.3);
                let depth = 1.0 - rho + ragged * smoothstep(0.0, 0.5, rho);
                let body = smoothstep(0.0, 0.55, depth) * (0.82 + 0.18 * grain.at(x * 2.9, y * 2.9 + 90.0));
                // Drying leaves a slightly darker border.
                let border = (depth - 0.36) / 0.16;
                let film = strength * (body + 0.2 * decay(border * border));
                for (albedo, tint) in surface.albedo.iter_mut().zip(tint) {
                    *albedo *= 1.0 - (film * tint).min(0.95);
                }
                surface.gloss *= 1.0 - (0.9 * film).min(0.9);
            }
            Self::MissingChamfer { outer, edge, skin, grain, .. } => {
                // The rim was too low for the tool: the face runs on to the edge (see `chamfers`) and keeps the
                // dull, darker skin of the blank.
                let [a, b] = self.chamfers(point);
                let beyond = if *outer { point.radius - edge } else { edge - point.radius };
                let bare = (1.0 - a.min(b)) * smoothstep(-0.8, 0.8, beyond);
                let film = skin * bare * (0.85 + 0.15 * grain.at(point.x / 4.0, point.y / 4.0));
                surface.albedo = surface.albedo.map(|albedo| albedo * (1.0 - film));
                surface.gloss *= 1.0 - film;
            }
        }
    }
}

/// A point on the face, at least `margin` away from the chamfers.
fn on_face(part: &Part, draw: &mut Draw, margin: f32) -> [f32; 2] {
    let low = part.inner + part.inner_chamfer + margin;
    let high = part.outer - part.outer_chamfer - margin;
    let radius = draw.between(low, high.max(low));
    draw.direction().map(|d| d * radius)
}

/// Axes of an ellipse as factors on x and y.
fn squash(draw: &mut Draw, most: f32) -> [f32; 2] {
    let by = draw.between(-most, most);
    [1.0 + by, 1.0 - by]
}

/// Offset from `centre` in units of the ellipse's axes, and its length.
fn within(point: &Point, centre: [f32; 2], radius: f32, squash: [f32; 2]) -> (f32, f32, f32) {
    let x = (point.x - centre[0]) / (radius * squash[0]);
    let y = (point.y - centre[1]) / (radius * squash[1]);
    (x, y, (x * x + y * y).sqrt())
}

/// Distance to a polyline and the place along it, 0..1.
fn to_path(point: &Point, path: &[[f32; 2]]) -> (f32, f32) {
    let mut best = (f32::INFINITY, 0.0);
    let pieces = path.len() - 1;
    for (i, ends) in path.windows(2).enumerate() {
        let (ax, ay) = (point.x - ends[0][0], point.y - ends[0][1]);
        let (bx, by) = (ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]);
        let t = ((ax * bx + ay * by) / (bx * bx + by * by)).clamp(0.0, 1.0);
        let (dx, dy) = (ax - t * bx, ay - t * by);
        let distance = dx * dx + dy * dy;
        if distance < best.0 {
            best = (distance, (i as f32 + t) / pieces as f32);
        }
    }
    (best.0.sqrt(), best.1)
}
