//! Light on the scene: one linear RGB value a pixel, before lens and sensor.

use super::defect::Defect;
use super::maths::{angle_turns, decay, mix, sin_turns, smoothstep};
use super::scene::{Light, Part, SIDE, Scene};

/// Cells of the tool's arcs around the part.
const ARC_CELLS: i32 = 26;

/// What the light meets at one point of the part.
pub(super) struct Surface {
    /// Slope of the height along x and y, per pixel.
    pub(super) slope: [f32; 2],
    /// Factor on all reflected light, per channel.
    pub(super) albedo: [f32; 3],
    /// Factor on the mirror-like share.
    pub(super) gloss: f32,
    /// Light scattered in all directions by torn metal.
    pub(super) scatter: f32,
}

/// A point of the part: offset from its centre in part pixels, distance and unit direction.
pub(super) struct Point {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) radius: f32,
    pub(super) away: [f32; 2],
}

impl Scene {
    /// The point of the part below the middle of pixel (`column`, `row`).
    pub(super) fn point(&self, column: usize, row: usize) -> Point {
        let x = (column as f32 + 0.5 - self.centre[0]) / self.scale;
        let y = (row as f32 + 0.5 - self.centre[1]) / self.scale;
        let radius = (x * x + y * y).sqrt();
        let away = if radius > 1e-3 { [x / radius, y / radius] } else { [1.0, 0.0] };
        Point { x, y, radius, away }
    }

    /// Linear RGB of every pixel, row-major.
    pub(super) fn radiance(&self) -> Vec<[f32; 3]> {
        let pixels = (0..SIDE * SIDE).map(|i| self.pixel(i % SIDE, i / SIDE, None));
        pixels.collect()
    }

    /// Linear RGB of one pixel.
    pub(super) fn pixel(&self, column: usize, row: usize, defect: Option<&Defect>) -> [f32; 3] {
        let point = self.point(column, row);
        let edge = (self.part.outer - point.radius).min(point.radius - self.part.inner) * self.scale;
        let covered = (0.5 + edge).clamp(0.0, 1.0);
        let belt = if covered < 1.0 { self.belt(column, row, &point) } else { [0.0; 3] };
        if covered == 0.0 {
            return belt;
        }
        let metal = self.metal(&point, defect);
        [0, 1, 2].map(|c| mix(belt[c], metal[c], covered))
    }

    fn metal(&self, point: &Point, defect: Option<&Defect>) -> [f32; 3] {
        let chamfers = defect.map_or([1.0; 2], |d| d.chamfers(point));
        let mut surface = self.part.surface(point, chamfers);
        if let Some(defect) = defect {
            defect.change(point, &mut surface);
        }
        let [sx, sy] = surface.slope;
        let length = (1.0 + sx * sx + sy * sy).sqrt();
        let normal = [-sx / length, -sy / length, 1.0 / length];
        // A tent of diffuse light, brighter overhead and towards the lamp.
        let key = self.lights[0].azimuth();
        let side = normal[0] * key[0] + normal[1] * key[1];
        let mut rough = self.ambient * (0.054 + 0.5 * (1.0 - normal[2]) + 0.03 * side);
        let mut mirror = 0.0;
        for light in &self.lights {
            rough += 0.062 * light.strength * dot(normal, light.towards).max(0.0);
            mirror += light.strength * self.highlight(light, normal, point.away);
        }
        let grey = rough + 0.95 * surface.gloss * mirror + surface.scatter;
        [0, 1, 2].map(|c| grey * surface.albedo[c] * self.part.tint[c])
    }

    /// Ward's anisotropic highlight: wide across the lathe marks, narrow along them. On concentric marks
    /// this makes the bow-tie that turns with the light.
    fn highlight(&self, light: &Light, normal: [f32; 3], away: [f32; 2]) -> f32 {
        let tangent = [-away[1], away[0], 0.0];
        let along = dot(light.half, tangent) - dot(normal, tangent);
        let upright = dot(light.half, normal).max(0.05);
        // Across the marks: |h|^2 = 1 = (h.n)^2 + (h.t)^2 + (h.b)^2 gives h.b without building b.
        let plain = dot(light.half, tangent);
        let across = (1.0 - upright * upright - plain * plain).max(0.0);
        let part = &self.part;
        let exponent = (along * along / (part.along * part.along) + across / (part.across * part.across))
            / (upright * upright);
        decay(exponent)
    }

    /// The conveyor: rubber grain and a faint weave, darkened by the part's shadow.
    fn belt(&self, column: usize, row: usize, point: &Point) -> [f32; 3] {
        let belt = &self.belt;
        let (px, py) = (column as f32 + 0.5, row as f32 + 0.5);
        let (x, y) = (px + belt.shift[0], py + belt.shift[1]);
        let grain = 0.22 * belt.grain.at(x / 1.7, y / 1.7)
            + 0.14 * belt.grain.at(x / 5.0 + 31.0, y / 5.0)
            + 0.1 * belt.grain.at(x / 38.0, y / 38.0 + 57.0);
        let weave = 0.1 * sin_turns((x + y) / 11.0) * sin_turns((x - y) / 11.0);
        let mut light = 1.0 + grain + weave;
        // The lamp throws the ring's shadow away from itself; its size makes the edge soft.
        let key = self.lights[0].azimuth();
        let (dx, dy) = (point.x + 9.0 * key[0], point.y + 9.0 * key[1]);
        let radius = (dx * dx + dy * dy).sqrt();
        let (inner, outer) = (self.part.inner, self.part.outer);
        let shade = smoothstep(inner - 6.0, inner + 6.0, radius)
            * (1.0 - smoothstep(outer - 7.0, outer + 7.0, radius));
        light *= 1.0 - 0.66 * shade;
        // Close to the part its body hides the tent as well.
        let distance = (point.radius - outer).max(inner - point.radius).max(0.0);
        light *= 1.0 - 0.4 * decay(distance / 4.0);
        let lint: f32 = belt
            .lint
            .iter()
            .map(|&[lx, ly, size, bright]| {
                let (ex, ey) = (px - lx, py - ly);
                bright * decay((ex * ex + ey * ey) / (size * size))
            })
            .sum();
        belt.colour.map(|c| c * light * 0.8 * (self.ambient + 0.3 * self.lights[0].strength) + lint)
    }
}

impl Part {
    /// The sound surface at a point; `chamfers` says how much of the outer and inner chamfer is there, 0..1.
    fn surface(&self, point: &Point, chamfers: [f32; 2]) -> Surface {
        let r = point.radius;
        let (marks, reflectance) = self.marks(r);
        let angle = angle_turns(point.away[0], point.away[1]) + self.rotation;
        let cells = ARC_CELLS as f32;
        let arcs = self.arcs.around(r / 0.9, angle * cells, ARC_CELLS)
            + 0.6 * self.arcs.around(r / 1.7 + 400.0, angle * cells * 2.0, ARC_CELLS * 2);
        // 1 on a chamfer, 0 on the face, with a pixel of rounding between.
        let outer = smoothstep(-0.8, 0.8, r - (self.outer - self.outer_chamfer)) * chamfers[0];
        let inner = smoothstep(-0.8, 0.8, (self.inner + self.inner_chamfer) - r) * chamfers[1];
        let chamfer = outer.max(inner);
        // The chamfer is cut in one clean pass: fainter marks. Height falls outwards on the outer chamfer.
        let tool = (marks + 0.035 * arcs) * (1.0 - 0.75 * chamfer);
        let radial = tool + self.chamfer_slope * (inner - outer);
        // The burnished break between face and chamfer.
        let line = |at: f32, there: f32| decay((r - at) * (r - at) / 0.6) * there;
        let burnish = line(self.outer - self.outer_chamfer, chamfers[0])
            + line(self.inner + self.inner_chamfer, chamfers[1]);
        let albedo = mix(reflectance * (1.0 + 0.05 * arcs), 1.18, 0.8 * chamfer) * (1.0 + 0.18 * burnish);
        Surface {
            slope: [radial * point.away[0], radial * point.away[1]],
            albedo: [albedo; 3],
            gloss: 1.0 - 0.25 * chamfer,
            scatter: 0.0,
        }
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
