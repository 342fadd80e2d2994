//! Weight files -> named tensors. Files are hostile until validated; nothing in them is ever executed.
//!
//! [`load`] recognises a file by its content, never by its name: safetensors, and the two containers that
//! `torch.save` has written (the zip of torch 1.6 and later, and the row of pickles from before).
//!
//! What every reader here does to the tensors:
//! - values become float32; integers are rounded to the nearest float32, bool becomes 0 and 1;
//! - a value that is not finite (also one that float32 cannot hold) refuses the file and names the tensor.
//!
//! What [`load`] and [`parse`] do besides, whichever the container:
//! - `num_batches_tracked` (BatchNorm's int64 step counter, which inference never reads) is dropped;
//! - a `module.` that stands before every name (torch's `DataParallel` puts it there) is taken off.

mod decode;
mod pickle;
mod pth;
mod safetensors;
mod state_dict;
mod stored;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, ErrorKind, Result};

pub use safetensors::{
    SaveDtype, load_safetensors_with_metadata, read_safetensors_with_metadata, save_safetensors,
    to_safetensors_bytes,
};
pub use stored::{FileBytes, StoredTensor, StoredTensors, Weights, open_safetensors};

/// The largest weight file that is read, in bytes (4 GiB): far above any backbone, far below a machine's end.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// A dense float32 tensor, row-major in the order of `shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extent of each axis, outermost first.
    pub shape: Vec<usize>,
    /// `shape` product values.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of `shape` (outermost axis first; empty for a scalar) over row-major `data`.
    ///
    /// # Errors
    /// If `data` does not hold exactly the product of `shape`.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
            Some(n) if n == data.len() => Ok(Self { shape, data }),
            Some(n) => {
                Err(Error::shape(format!("expected {n} values for shape {shape:?}, found {}", data.len())))
            }
            None => Err(Error::shape(format!("shape {shape:?} has more elements than memory can address"))),
        }
    }

    /// Checks the shape of the tensor that its file calls `name`.
    ///
    /// # Errors
    /// If the shape is not `expected`; the message names the tensor and both shapes.
    pub fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        expect_shape(name, &self.shape, expected)
    }
}

fn expect_shape(name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::shape(format!("tensor `{}`: expected shape {expected:?}, found {found:?}", printable(name))))
}

/// Tensors by name, as a state dict has them; sorted, so that iteration is deterministic.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// Reads the weight file at `path`, whichever known container it is.
///
/// # Errors
/// If the file cannot be read, is larger than [`MAX_FILE_BYTES`], or is refused by [`parse`].
pub fn load(path: &Path) -> Result<NamedTensors> {
    parse(&read_file(path)?, &path.display().to_string())
}

/// Reads weights from `bytes`; `name` (a path, or what the bytes are) stands in the messages.
///
/// # Errors
/// If the bytes are no known container, are damaged, hold no tensors or a value that is not finite, or if a
/// pickle among them wants anything but tensors and plain containers; that thing is then named.
pub fn parse(bytes: &[u8], name: &str) -> Result<NamedTensors> {
    let tensors = match Container::of(bytes) {
        Ok(Container::Safetensors) => safetensors::decode(bytes).map(|(tensors, _)| tensors),
        Ok(Container::TorchZip) => pth::read_zip(bytes),
        Ok(Container::TorchPickles) => pth::read_pickles(bytes),
        Err(e) => Err(e),
    };
    tensors.and_then(as_state_dict).map_err(|e| in_file(name, e))
}

/// The containers that [`parse`] knows.
enum Container {
    Safetensors,
    TorchZip,
    TorchPickles,
}

impl Container {
    /// By content: the JSON header that follows safetensors' eight length bytes, zip's first local header,
    /// pickle's protocol mark.
    fn of(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [] => Err(Error::format("the file is empty")),
            [b'P', b'K', 3, 4, ..] => Ok(Self::TorchZip),
            [0x80, 2..=5, ..] => Ok(Self::TorchPickles),
            _ if bytes.get(8) == Some(&b'{') => Ok(Self::Safetensors),
            _ => Err(Error::format("expected safetensors or a file of torch.save, found neither")),
        }
    }
}

/// What [`parse`] does to the tensors of every container; see the module's head.
fn as_state_dict(mut tensors: NamedTensors) -> Result<NamedTensors> {
    const PREFIX: &str = "module.";
    tensors.retain(|name, _| name != "num_batches_tracked" && !name.ends_with(".num_batches_tracked"));
    if tensors.is_empty() {
        return Err(Error::format("holds no weights"));
    }
    if tensors.keys().all(|name| name.len() > PREFIX.len() && name.starts_with(PREFIX)) {
        tensors = tensors.into_iter().map(|(name, t)| (name[PREFIX.len()..].to_owned(), t)).collect();
    }
    Ok(tensors)
}

/// The file's bytes, read whole: a copy, so that nobody who changes the file meanwhile can change ours.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let io = |e: std::io::Error| {
        Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).with_source(e)
    };
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::new();
    if len <= MAX_FILE_BYTES {
        // Reserved up front, because growing by doubling would copy a large file several times.
        bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX)).map_err(|_| {
            Error::new(ErrorKind::Limits, format!("`{}`: no memory for its {len} bytes", path.display()))
        })?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    }
    let len = len.max(bytes.len() as u64);
    if len > MAX_FILE_BYTES {
        return Err(Error::new(
            ErrorKind::Limits,
            format!(
                "`{}`: expected at most {MAX_FILE_BYTES} bytes of weights, found {len} or more",
                path.display()
            ),
        ));
    }
    Ok(bytes)
}

/// Puts `e` below a message that names the file.
fn in_file(name: &str, e: Error) -> Error {
    Error::new(e.kind(), format!("cannot load weights `{name}`")).with_source(e)
}

/// Refuses a tensor with a value that is not finite: such weights would make every score NaN, silently.
fn check_finite(name: &str, data: &[f32]) -> Result<()> {
    // Block by block without a branch a number: this reads every weight at every start.
    if data.chunks(1024).all(|block| block.iter().fold(true, |all, v| all & v.is_finite())) {
        return Ok(());
    }
    Err(not_finite(name, data))
}

/// The error for a tensor in which some value is not finite.
fn not_finite(name: &str, data: &[f32]) -> Error {
    let i = data.iter().position(|v| !v.is_finite()).unwrap_or(0);
    let found = data.get(i).copied().unwrap_or(f32::NAN);
    Error::format(format!(
        "tensor `{}`: expected finite float32 values, found {found} at element {i}",
        printable(name)
    ))
}

/// A name out of a hostile file, fit for a terminal: control characters escaped, cut at 100 characters.
fn printable(name: &str) -> String {
    let mut out: String = name.chars().take(100).flat_map(char::escape_debug).collect();
    if name.chars().nth(100).is_some() {
        out.push_str("...");
    }
    out
}
