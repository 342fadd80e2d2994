//! A picture of any size -> the size of a view, as ONNX nodes: what [`crate::preprocess::Geometry::apply`] does, from the size that is known
//! when the graph runs.
//!
//! Runtimes differ in what they make of ONNX's own Resize (OpenVINO ignores `antialias`), so the resampling is two products with
//! matrices that the graph makes from the size. Positions are whole numbers, so they are exact; weights are rounded to so
//! many binary places and the picture to whole grey levels after each axis, as the resizer behind `Geometry` does it.

use crate::onnx::{Attribute, Element, GraphBuilder, Value};
use crate::preprocess::{Fit, Geometry};

/// Weights are kept below this (16 bits with sign), after scaling by a power of two.
const LARGEST_WEIGHT: f64 = 32767.5;
/// Most binary places of a weight, plus one.
const MOST_PLACES: i32 = 22;

/// The middle grey level.
const MIDDLE: f32 = 128.0;

/// An axis of the picture on its way to the view.
struct Axis {
    /// Pixels of the picture, int64 scalar.
    original: Value,
    /// Pixels after resizing, int64 scalar.
    resized: Value,
    /// Where the view begins among them, int64 scalar: above 0 where it crops, below 0 where it pads.
    start: Value,
    /// Pixels of the view.
    shown: usize,
}

/// `picture`, `[batch, 3, height, width]` of whole numbers 0..255, at the size of a view.
pub(super) fn lay_out(b: &mut GraphBuilder, picture: &Value, geometry: &Geometry) -> Value {
    let shape = b.node("shape", "Shape", &[picture], &[]);
    let side = |b: &mut GraphBuilder, axis: i64| {
        let index = b.int("axis", axis);
        b.node("side", "Gather", &[&shape, &index], &[])
    };
    let (height, width) = (side(b, 2), side(b, 3));
    let [y, x] = axes(b, geometry, height, width);
    // Grey levels are counted from the middle one: sums of whole numbers then stay within the 24 bits of float32 up to eightfold
    // shrinking, and are exact.
    let middle = b.float("middle", MIDDLE);
    let centred = b.node("centred_levels", "Sub", &[picture, &middle], &[]);
    let across = Weights::new(b, &x, geometry.fit, Layout::Columns);
    let narrow = b.node("across", "MatMul", &[&centred, &across.matrix], &[]);
    let narrow = across.whole_levels(b, &narrow);
    let down = Weights::new(b, &y, geometry.fit, Layout::Rows);
    let small = b.node("down", "MatMul", &[&down.matrix, &narrow], &[]);
    let small = down.whole_levels(b, &small);
    let small = b.node("resized_picture", "Add", &[&small, &middle], &[]);
    let (Some(rows), Some(columns)) = (&down.covered, &across.covered) else { return small };
    // The padding has the picture's mean colour.
    let axis = |b: &mut GraphBuilder, axis: i64| b.ints("mean_axis", &[1], &[axis]);
    let (last, before) = (axis(b, 3), axis(b, 2));
    let mean = b.node("mean_of_row", "ReduceMean", &[picture, &last], &[]);
    let mean = b.node("mean", "ReduceMean", &[&mean, &before], &[]);
    let mean = rounded(b, &mean);
    let covered = b.node("covered", "Mul", &[rows, columns], &[]);
    let one = b.float("one", 1.0);
    let free = b.node("free", "Sub", &[&one, &covered], &[]);
    let fill = b.node("fill", "Mul", &[&mean, &free], &[]);
    b.node("padded", "Add", &[&small, &fill], &[])
}

/// Rows and columns: by the rules of [`Geometry`], in whole numbers.
fn axes(b: &mut GraphBuilder, geometry: &Geometry, height: Value, width: Value) -> [Axis; 2] {
    let (rows, columns) = (geometry.size.height, geometry.size.width);
    match geometry.fit {
        Fit::Stretch => [(height, rows), (width, columns)].map(|(original, shown)| {
            let (resized, start) = (b.int("resized", shown as i64), b.int("start", 0));
            Axis { original, resized, start, shown }
        }),
        Fit::Crop { resize } => {
            let short = b.node("short", "Min", &[&height, &width], &[]);
            let to = b.int("resize", resize as i64);
            [(height, rows), (width, columns)].map(|(original, shown)| {
                let product = b.node("scaled", "Mul", &[&original, &to], &[]);
                let resized = b.node("resized", "Div", &[&product, &short], &[]);
                let size = b.int("shown", shown as i64);
                let surplus = b.node("surplus", "Sub", &[&resized, &size], &[]);
                let surplus = cast(b, &surplus, Element::F32);
                let half = b.float("half", 0.5);
                let start = b.node("margin", "Mul", &[&surplus, &half], &[]);
                let start = b.node("start", "Round", &[&start], &[]); // Halves to even.
                let start = cast(b, &start, Element::I64);
                Axis { original, resized, start, shown }
            })
        }
        Fit::Pad => {
            let (zero, one, two) = (b.int("zero", 0), b.int("one", 1), b.int("two", 2));
            // This side scaled as the other one fits, rounded: floor((2 side size + other) / (2 other)).
            let fitted =
                |b: &mut GraphBuilder, side: &Value, other: &Value, other_size: usize, most: usize| {
                    let twice = b.int("twice_size", 2 * other_size as i64);
                    let product = b.node("scaled", "Mul", &[side, &twice], &[]);
                    let product = b.node("plus_half", "Add", &[&product, other], &[]);
                    let divisor = b.node("twice_other", "Mul", &[other, &two], &[]);
                    let fitted = b.node("fitted", "Div", &[&product, &divisor], &[]);
                    let most = b.int("most", most as i64);
                    let fitted = b.node("at_most", "Min", &[&fitted, &most], &[]);
                    let resized = b.node("resized", "Max", &[&fitted, &one], &[]);
                    let free = b.node("free", "Sub", &[&most, &resized], &[]);
                    let before = b.node("before", "Div", &[&free, &two], &[]);
                    let start = b.node("start", "Sub", &[&zero, &before], &[]);
                    (resized, start)
                };
            let (resized_height, start_y) = fitted(b, &height, &width, columns, rows);
            let (resized_width, start_x) = fitted(b, &width, &height, rows, columns);
            [
                Axis { original: height, resized: resized_height, start: start_y, shown: rows },
                Axis { original: width, resized: resized_width, start: start_x, shown: columns },
            ]
        }
    }
}

/// Which way a matrix of weights lies.
#[derive(Clone, Copy)]
enum Layout {
    /// `[shown, original]`, to be multiplied from the left.
    Rows,
    /// `[original, shown]`, to be multiplied from the right.
    Columns,
}

/// The resampling of an axis.
struct Weights {
    /// Whole numbers that add up to about `unit` for each pixel shown.
    matrix: Value,
    /// A power of two.
    unit: Value,
    /// What the middle grey level adds to a sum beyond its share, as the weights do not add up to `unit` exactly.
    surplus: Value,
    /// With [`Fit::Pad`]: 1 for each pixel shown that is the picture's, else 0, laid out as the matrix.
    covered: Option<Value>,
}

impl Weights {
    /// A triangle as wide as a pixel on the coarser side, around each shown pixel's place in the picture.
    fn new(b: &mut GraphBuilder, axis: &Axis, fit: Fit, layout: Layout) -> Self {
        let n = axis.shown;
        let (shown, sources, over) = match layout {
            Layout::Rows => ([n, 1], [1, -1], 1),
            Layout::Columns => ([1, n], [-1, 1], 0),
        };
        // Twice the pixels' centres, as whole numbers.
        let index: Vec<i64> = (0..n as i64).collect();
        let index = b.ints("index", &shown, &index);
        let place = b.node("place", "Add", &[&index, &axis.start], &[]);
        let (zero, one, two) = (b.int("zero", 0), b.int("one", 1), b.int("two", 2));
        let source = b.node("sources", "Range", &[&zero, &axis.original, &one], &[]);
        let shape = b.ints("column", &[2], &sources);
        let source = b.node("source", "Reshape", &[&source, &shape], &[]);
        let centre = |b: &mut GraphBuilder, of: &Value| {
            let twice = b.node("twice", "Mul", &[of, &two], &[]);
            b.node("centre", "Add", &[&twice, &one], &[])
        };
        let (from, to) = (centre(b, &source), centre(b, &place));
        let from = b.node("from", "Mul", &[&from, &axis.resized], &[]);
        let to = b.node("to", "Mul", &[&to, &axis.original], &[]);
        let apart = b.node("apart", "Sub", &[&from, &to], &[]);
        let coarser = b.node("coarser", "Max", &[&axis.original, &axis.resized], &[]);
        let reach = b.node("reach", "Mul", &[&coarser, &two], &[]);
        // A triangle's height over each pixel, in whole numbers; float64 from here on, where the runtime has it: a weight that is
        // rounded to the other side moves grey levels.
        let (apart, reach) = (cast(b, &apart, Element::F64), cast(b, &reach, Element::F64));
        let apart = b.node("distance", "Abs", &[&apart], &[]);
        let falling = b.node("falling", "Sub", &[&reach, &apart], &[]);
        let mut triangle = b.node("triangle", "Relu", &[&falling], &[]);
        let covered = (fit == Fit::Pad).then(|| covered(b, &place, &axis.resized));
        if let Some(covered) = &covered {
            let covered = cast(b, covered, Element::F64);
            triangle = b.node("of_picture", "Mul", &[&triangle, &covered], &[]);
        }
        let over = b.ints("over", &[1], &[over]);
        let mut sum = b.node("total", "ReduceSum", &[&triangle, &over], &[]);
        if covered.is_some() {
            // The padding's rows are all zeros.
            let least = b.doubles("least", &[], &[1.0]);
            sum = b.node("total_or_least", "Max", &[&sum, &least], &[]);
        }
        let weights = b.node("weights", "Div", &[&triangle, &sum], &[]);
        let unit = unit(b, &weights);
        // Multiplied before it is divided, so that one rounding alone comes before the one to whole numbers.
        let scaled = b.node("scaled_triangle", "Mul", &[&triangle, &unit], &[]);
        let scaled = b.node("scaled_weights", "Div", &[&scaled, &sum], &[]);
        let half = b.doubles("half", &[], &[0.5]);
        let scaled = b.node("plus_half", "Add", &[&scaled, &half], &[]);
        let matrix = b.node("whole_weights", "Floor", &[&scaled], &[]);
        let added = b.node("added_weights", "ReduceSum", &[&matrix, &over], &[]);
        let surplus = b.node("surplus_weights", "Sub", &[&added, &unit], &[]);
        let middle = b.doubles("middle", &[], &[MIDDLE.into()]);
        let surplus = b.node("surplus", "Mul", &[&surplus, &middle], &[]);
        let [matrix, unit, surplus] = [&matrix, &unit, &surplus].map(|v| cast(b, v, Element::F32));
        Self { matrix, unit, surplus, covered }
    }

    /// Sums of centred levels -> whole grey levels, centred.
    fn whole_levels(&self, b: &mut GraphBuilder, sums: &Value) -> Value {
        let sums = b.node("sums", "Add", &[sums, &self.surplus], &[]);
        let levels = b.node("levels", "Div", &[&sums, &self.unit], &[]);
        rounded(b, &levels)
    }
}

/// 1 where a place lies in the resized picture, else 0.
fn covered(b: &mut GraphBuilder, place: &Value, resized: &Value) -> Value {
    let (before, one) = (b.int("before", -1), b.float("in", 1.0));
    let zero = b.float("out", 0.0);
    let from = b.node("is_from", "Greater", &[place, &before], &[]);
    let until = b.node("is_until", "Greater", &[resized, place], &[]);
    let from = b.node("from_first", "Where", &[&from, &one, &zero], &[]);
    let until = b.node("until_last", "Where", &[&until, &one, &zero], &[]);
    b.node("covered", "Mul", &[&from, &until], &[])
}

/// The power of two that brings the largest weight to 15 bits: the lowest whose double would bring it beyond; float64.
fn unit(b: &mut GraphBuilder, weights: &Value) -> Value {
    let largest = b.node("largest", "ReduceMax", &[weights], &[("keepdims", Attribute::Int(0))]);
    // 2^p = 1 + the sum of 2^k for k < p, and p is how many of the doubles still fit.
    let powers: Vec<f64> = (0..MOST_PLACES - 1).map(|k| 2f64.powi(k)).collect();
    let limits: Vec<f64> = powers.iter().map(|power| LARGEST_WEIGHT / (2.0 * power)).collect();
    let limits = b.doubles("limits", &[limits.len()], &limits);
    let powers = b.doubles("powers", &[powers.len()], &powers);
    let fits = b.node("fits", "Greater", &[&limits, &largest], &[]);
    let fits = cast(b, &fits, Element::F64);
    let terms = b.node("terms", "Mul", &[&fits, &powers], &[]);
    let sum = b.node("places", "ReduceSum", &[&terms], &[("keepdims", Attribute::Int(0))]);
    let one = b.doubles("one", &[], &[1.0]);
    b.node("unit", "Add", &[&sum, &one], &[])
}

/// To whole numbers, halves up.
fn rounded(b: &mut GraphBuilder, value: &Value) -> Value {
    let half = b.float("half", 0.5);
    let plus = b.node("plus_half", "Add", &[value, &half], &[]);
    b.node("rounded", "Floor", &[&plus], &[])
}

fn cast(b: &mut GraphBuilder, value: &Value, to: Element) -> Value {
    b.node("cast", "Cast", &[value], &[("to", Attribute::Type(to))])
}
