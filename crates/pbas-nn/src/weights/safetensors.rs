//! safetensors through the `safetensors` crate: reading as float32, and writing the same bytes every time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype as Stored, SafeTensorError, View};
use safetensors::{SafeTensors, serialize};

use super::decode::Dtype;
use super::{NamedTensors, Tensor, check_finite, in_file, printable, read_file};
use crate::{Error, ErrorKind, Result};

/// The reserved key of the header under which the string metadata lie.
const METADATA: &str = "__metadata__";

/// The element type that [`save_safetensors`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveDtype {
    /// float32, exactly.
    F32,
    /// float16, rounded to the nearest (ties to even): half the size, relative error at most 2^-11 in the normal
    /// range, values up to 65504.
    F16,
}

/// Reads a safetensors file and its string metadata (empty if it has none); names and tensors as they are in the
/// file, none dropped or renamed.
///
/// # Errors
/// If the file cannot be read, is not valid safetensors, or holds a type that is not read or a value that is
/// not finite.
pub fn load_safetensors_with_metadata(path: &Path) -> Result<(NamedTensors, BTreeMap<String, String>)> {
    read_safetensors_with_metadata(&read_file(path)?, &path.display().to_string())
}

/// As [`load_safetensors_with_metadata`], of bytes; `name` stands in the messages.
///
/// # Errors
/// If the bytes are not valid safetensors, or hold a type that is not read or a value that is not finite.
pub fn read_safetensors_with_metadata(
    bytes: &[u8],
    name: &str,
) -> Result<(NamedTensors, BTreeMap<String, String>)> {
    decode(bytes).map_err(|e| in_file(name, e))
}

pub(super) fn decode(bytes: &[u8]) -> Result<(NamedTensors, BTreeMap<String, String>)> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| explain(&e, bytes.len()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| explain(&e, bytes.len()))?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.iter() {
        let dtype = numbers_of(name, view.dtype())?;
        let data = dtype.decode(view.data());
        check_finite(name, &data)?;
        tensors.insert(name.to_owned(), Tensor::new(view.shape(), data)?);
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok((tensors, metadata))
}

/// The element type of the tensor `name`, if it is one that is read.
pub(super) fn numbers_of(name: &str, stored: Stored) -> Result<Dtype> {
    dtype_of(stored).ok_or_else(|| {
        let text = format!("tensor `{}`: element type {stored} is not read", printable(name));
        Error::new(ErrorKind::Unsupported, text)
    })
}

fn dtype_of(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::F64 => Dtype::F64,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}

/// The crate's errors in this crate's words. As text, because they repeat their source in their own text.
pub(super) fn explain(e: &SafeTensorError, len: usize) -> Error {
    use SafeTensorError as E;
    Error::format(match e {
        E::HeaderTooSmall => format!("safetensors: expected at least 8 bytes, found {len}"),
        E::HeaderTooLarge => "safetensors: the header's stated length is above 100 MB".to_owned(),
        E::InvalidHeaderLength => {
            format!("safetensors: the header's stated length exceeds the file's {len} bytes; it is cut off")
        }
        E::MetadataIncompleteBuffer => {
            format!(
                "safetensors: the tensors do not fill the file's {len} bytes exactly; it is cut off or padded"
            )
        }
        E::InvalidOffset(name) => {
            format!("safetensors: tensor `{}` does not begin where the one before it ends", printable(name))
        }
        E::TensorInvalidInfo => {
            "safetensors: a tensor's shape and type do not make the bytes that its offsets span".to_owned()
        }
        E::ValidationOverflow => "safetensors: a tensor's shape overflows the address space".to_owned(),
        other => format!("safetensors: {other}"),
    })
}

/// Writes `tensors` and string `metadata` as safetensors at `path`, byte for byte the same for the same input.
/// Written beside `path`, synced and then renamed, so that no half-written file ever has that name.
///
/// # Errors
/// As [`to_safetensors_bytes`]; and if the file cannot be written.
pub fn save_safetensors(
    tensors: &NamedTensors,
    metadata: &BTreeMap<String, String>,
    dtype: SaveDtype,
    path: &Path,
) -> Result<()> {
    let bytes = to_safetensors_bytes(tensors, metadata, dtype)?;
    let io = |e: std::io::Error| {
        Error::new(ErrorKind::Io, format!("cannot write `{}`", path.display())).with_source(e)
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // A temporary file is for its owner alone; a weight file is as readable as any other (umask applies).
        // Elsewhere files inherit the rights of their folder.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    file.write_all(&bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// `tensors` and string `metadata` as safetensors, byte for byte the same for the same input: metadata in order of
/// their keys, then tensors in order of their names.
///
/// # Errors
/// If a tensor's data do not fill its shape, a value is not finite or does not fit `dtype`, or a tensor is
/// named `__metadata__`, which the format keeps for itself.
pub fn to_safetensors_bytes(
    tensors: &NamedTensors,
    metadata: &BTreeMap<String, String>,
    dtype: SaveDtype,
) -> Result<Vec<u8>> {
    for (name, tensor) in tensors {
        check(name, tensor, dtype)?;
    }
    let views = tensors.iter().map(|(name, tensor)| (name, Saved { tensor, dtype }));
    let plain = serialize(views, None).map_err(|e| Error::format(format!("safetensors: {e}")))?;
    if metadata.is_empty() {
        return Ok(plain);
    }

    // The crate writes metadata in a hash map's order, another one in every process; so they are put in here.
    let cannot = || Error::format("safetensors: the header just written is damaged");
    let (len, rest) = plain.split_first_chunk::<8>().ok_or_else(cannot)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| cannot())?;
    let (json, data) = rest.split_at_checked(len).ok_or_else(cannot)?;
    let json = json.trim_ascii_end().strip_prefix(b"{").ok_or_else(cannot)?;

    let mut header = format!("{{\"{METADATA}\":{{");
    for (i, (key, value)) in metadata.iter().enumerate() {
        if i > 0 {
            header.push(',');
        }
        push_json_string(&mut header, key);
        header.push(':');
        push_json_string(&mut header, value);
    }
    header.push_str(if tensors.is_empty() { "}" } else { "}," });
    let mut header = header.into_bytes();
    header.extend_from_slice(json);
    header.resize(header.len().next_multiple_of(8), b' '); // so that the data stay aligned

    let mut out = Vec::with_capacity(8 + header.len() + data.len());
    out.extend_from_slice(&(header.len() as u64).to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
    // Also holds the header to the format's 100 MB.
    SafeTensors::read_metadata(&out).map_err(|e| explain(&e, out.len()))?;
    Ok(out)
}

fn check(name: &str, tensor: &Tensor, dtype: SaveDtype) -> Result<()> {
    if name == METADATA {
        return Err(Error::format(format!("a tensor cannot be named `{METADATA}` in safetensors")));
    }
    if tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(tensor.data.len()) {
        return Err(Error::shape(format!(
            "tensor `{}`: shape {:?} does not fit its {} values",
            printable(name),
            tensor.shape,
            tensor.data.len()
        )));
    }
    check_finite(name, &tensor.data)?;
    if dtype == SaveDtype::F16
        && let Some(v) = tensor.data.iter().find(|&&v| !f16::from_f32(v).is_finite())
    {
        return Err(Error::format(format!(
            "tensor `{}`: expected values that float16 can hold, found {v}",
            printable(name)
        )));
    }
    Ok(())
}

struct Saved<'a> {
    tensor: &'a Tensor,
    dtype: SaveDtype,
}

impl View for Saved<'_> {
    fn dtype(&self) -> Stored {
        match self.dtype {
            SaveDtype::F32 => Stored::F32,
            SaveDtype::F16 => Stored::F16,
        }
    }
    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.tensor.data.iter();
        Cow::Owned(match self.dtype {
            SaveDtype::F32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            SaveDtype::F16 => values.flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        })
    }
    fn data_len(&self) -> usize {
        self.tensor.data.len() * self.dtype().bitsize() / 8
    }
}

/// RFC 8259 section 7: quotes, backslashes and control characters are escaped, all else stands as it is.
fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", c as u32)),
            _ => out.push(c),
        }
    }
    out.push('"');
}
