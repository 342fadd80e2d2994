//! [`Weights`]: numbers that are owned, or lie in a file as it is mapped into memory until somebody wants them.
//!
//! A model is read at every start, and most of its weights are wanted once, to be laid out for the kernels. So nothing is
//! copied when a file is opened: float32 numbers are used where they lie, float16 numbers are widened a tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::{Deref, DerefMut, Range};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use memmap2::{Mmap, MmapOptions};
use safetensors::SafeTensors;

use super::decode::Dtype;
use super::safetensors::{explain, numbers_of};
use super::{MAX_FILE_BYTES, expect_shape, in_file, not_finite};
use crate::{Error, ErrorKind, Result};

/// The bytes of a file, mapped or read. Clones share them.
#[derive(Debug, Clone)]
pub struct FileBytes(Arc<Bytes>);

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl FileBytes {
    /// Maps a file. It must not be changed in place while it is in use (one that is replaced by renaming another over it
    /// stays as it was): numbers read later would be others, and beyond the end of a shortened file the process is stopped
    /// by the operating system.
    ///
    /// # Errors
    /// A file that cannot be opened or mapped, or is longer than [`MAX_FILE_BYTES`].
    pub fn map(path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| {
            Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).with_source(e)
        };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let len = metadata.len();
        if len > MAX_FILE_BYTES {
            return Err(Error::new(
                ErrorKind::Limits,
                format!("`{}`: expected at most {MAX_FILE_BYTES} bytes, found {len}", path.display()),
            ));
        }
        if len == 0 || !metadata.is_file() {
            // What is no regular file (or says that it has no length) cannot be mapped.
            return std::fs::read(path).map(Self::from).map_err(io);
        }
        // SAFETY: The map is read only and private to this process. What it rests on is said above and cannot be enforced:
        // nobody may change the file in place. All numbers in it are plain bits, of which every pattern is valid, so that a
        // change would make wrong numbers and never a wrong type.
        let map = unsafe { MmapOptions::new().populate().map(&file) }.map_err(io)?;
        Ok(Self(Arc::new(Bytes::Mapped(map))))
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes::Owned(bytes)))
    }
}

impl Deref for FileBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// A row of float32 numbers: owned, or in a file. It is used as a slice; that of float16 numbers in a file is made when first
/// asked for and then kept, unless it is read by [`Weights::read`].
#[derive(Clone)]
pub struct Weights(Place);

#[derive(Clone)]
enum Place {
    Owned(Vec<f32>),
    File(Stored),
}

#[derive(Clone)]
struct Stored {
    file: FileBytes,
    range: Range<usize>,
    dtype: Dtype,
    /// What is not float32 in this machine's order, widened; shared by clones.
    wide: Arc<OnceLock<Vec<f32>>>,
}

impl Stored {
    fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }

    /// The numbers where they lie, if they are float32 as this machine has them.
    fn in_place(&self) -> Option<&[f32]> {
        let same = self.dtype == Dtype::F32 && cfg!(target_endian = "little");
        if same { bytemuck::try_cast_slice(self.bytes()).ok() } else { None }
    }
}

impl Weights {
    /// Numbers held; nothing is read for it.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Owned(values) => values.len(),
            Place::File(stored) => stored.range.len() / stored.dtype.size(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers for one use: widened into `scratch` if need be, and not kept.
    pub fn read<'a>(&'a self, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let Place::File(stored) = &self.0 else { return self };
        if let Some(values) = stored.in_place().or_else(|| stored.wide.get().map(Vec::as_slice)) {
            return values;
        }
        stored.dtype.decode_into(stored.bytes(), scratch);
        scratch
    }
}

impl Default for Weights {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<f32>> for Weights {
    fn from(values: Vec<f32>) -> Self {
        Self(Place::Owned(values))
    }
}

impl Deref for Weights {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &self.0 {
            Place::Owned(values) => values,
            Place::File(stored) => stored
                .in_place()
                .unwrap_or_else(|| stored.wide.get_or_init(|| stored.dtype.decode(stored.bytes()))),
        }
    }
}

impl DerefMut for Weights {
    /// The numbers to write to: from now on they are owned.
    fn deref_mut(&mut self) -> &mut [f32] {
        if let Place::File(_) = self.0 {
            self.0 = Place::Owned(self.to_vec());
        }
        match &mut self.0 {
            Place::Owned(values) => values,
            Place::File(_) => unreachable!("owned just above"),
        }
    }
}

impl PartialEq for Weights {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match &self.0 {
            Place::Owned(_) => "owned",
            Place::File(_) => "in a file",
        };
        write!(f, "Weights({} numbers, {place})", self.len())
    }
}

/// A tensor of an opened file.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTensor {
    /// Extent of each axis, outermost first.
    pub shape: Vec<usize>,
    /// `shape` product numbers.
    pub data: Weights,
}

impl StoredTensor {
    /// Checks the shape of the tensor that its file calls `name`.
    ///
    /// # Errors
    /// If the shape is not `expected`; the message names the tensor and both shapes.
    pub fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        expect_shape(name, &self.shape, expected)
    }
}

/// The tensors of an opened file by name.
pub type StoredTensors = BTreeMap<String, StoredTensor>;

/// As [`super::read_safetensors_with_metadata`], without copying a number: the tensors stay in `bytes`. All numbers have been
/// checked to be finite.
///
/// # Errors
/// If the bytes are not valid safetensors, or hold a type that is not read or a value that is not finite.
pub fn open_safetensors(bytes: &FileBytes, name: &str) -> Result<(StoredTensors, BTreeMap<String, String>)> {
    open(bytes).map_err(|e| in_file(name, e))
}

fn open(bytes: &FileBytes) -> Result<(StoredTensors, BTreeMap<String, String>)> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| explain(&e, bytes.len()))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| explain(&e, bytes.len()))?;
    let start = bytes.as_ptr() as usize;
    let mut tensors = StoredTensors::new();
    for (name, view) in file.iter() {
        let dtype = numbers_of(name, view.dtype())?;
        let at = view.data().as_ptr() as usize - start;
        let stored =
            Stored { file: bytes.clone(), range: at..at + view.data().len(), dtype, wide: Arc::default() };
        if !dtype.all_finite(stored.bytes()) {
            return Err(not_finite(name, &dtype.decode(stored.bytes())));
        }
        let data = Weights(Place::File(stored));
        tensors.insert(name.to_owned(), StoredTensor { shape: view.shape().to_vec(), data });
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok((tensors, metadata))
}

#[cfg(test)]
mod tests {
    use super::super::{
        NamedTensors, SaveDtype, Tensor, read_safetensors_with_metadata, to_safetensors_bytes,
    };
    use super::*;

    fn tensors() -> NamedTensors {
        let values = |n: usize| (0..n).map(|i| i as f32 * 0.25 - 7.0).collect::<Vec<_>>();
        [("a", 300), ("b", 1), ("c", 77)]
            .map(|(name, n)| (name.to_owned(), Tensor { shape: vec![n], data: values(n) }))
            .into()
    }

    #[test]
    fn an_opened_file_holds_what_a_read_one_does() {
        let metadata = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        let folder = tempfile::tempdir().unwrap();
        for dtype in [SaveDtype::F32, SaveDtype::F16] {
            let bytes = to_safetensors_bytes(&tensors(), &metadata, dtype).unwrap();
            let path = folder.path().join("weights.safetensors");
            std::fs::write(&path, &bytes).unwrap();
            let (slow, _) = read_safetensors_with_metadata(&bytes, "x").unwrap();
            for file in [FileBytes::map(&path).unwrap(), FileBytes::from(bytes)] {
                let (fast, found) = open_safetensors(&file, "x").unwrap();
                assert_eq!(found, metadata);
                assert_eq!(fast.len(), slow.len());
                for (name, slow) in &slow {
                    let fast = &fast[name];
                    assert_eq!((&fast.shape, fast.data.len()), (&slow.shape, slow.data.len()));
                    let mut scratch = Vec::new();
                    assert_eq!(fast.data.read(&mut scratch), slow.data);
                    assert_eq!(*fast.data, *slow.data);
                    let mut written = fast.data.clone();
                    written[0] = 9.0;
                    assert_eq!((written[0], fast.data[0]), (9.0, slow.data[0]));
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_found_in_every_type() {
        let f16 = |v: f32| half::f16::from_f32(v).to_le_bytes().to_vec();
        let bf16 = |v: f32| half::bf16::from_f32(v).to_le_bytes().to_vec();
        let f32 = |v: f32| v.to_le_bytes().to_vec();
        let f64 = |v: f32| f64::from(v).to_le_bytes().to_vec();
        type Encode<'a> = &'a dyn Fn(f32) -> Vec<u8>;
        let types: [(Dtype, Encode<'_>); 4] =
            [(Dtype::F16, &f16), (Dtype::Bf16, &bf16), (Dtype::F32, &f32), (Dtype::F64, &f64)];
        for (dtype, write) in types {
            // Long enough that whole blocks and a rest are looked at.
            for at in [0, 700, 1500, 1501] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut values = vec![1.5f32; 1502];
                    let bytes = |v: &[f32]| v.iter().flat_map(|&v| write(v)).collect::<Vec<u8>>();
                    assert!(dtype.all_finite(&bytes(&values)), "{dtype:?}");
                    values[at] = bad;
                    assert!(!dtype.all_finite(&bytes(&values)), "{dtype:?} {bad} at {at}");
                }
            }
        }
        assert!(!Dtype::F64.all_finite(&1e300f64.to_le_bytes()), "beyond float32");
        assert!(Dtype::I64.all_finite(&i64::MAX.to_le_bytes()));
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FileBytes::map(&folder.path().join("missing")).is_err());
        assert!(FileBytes::map(folder.path()).is_err());
        let empty = folder.path().join("empty");
        std::fs::write(&empty, []).unwrap();
        assert!(open_safetensors(&FileBytes::map(&empty).unwrap(), "empty").is_err());
    }
}
