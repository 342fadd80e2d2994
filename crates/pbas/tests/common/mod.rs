//! Golden files: inputs and outputs of the published code, read from `tests/golden` or from the folder that the
//! environment variable `PBAS_GOLDEN` names.
#![allow(dead_code)] // Each test binary uses its part.

pub mod networks;
pub mod onnx;

use std::path::PathBuf;

use safetensors::SafeTensors;

/// One golden file.
pub struct Golden {
    name: String,
    bytes: Vec<u8>,
}

/// The folder of golden files.
pub fn folder() -> PathBuf {
    std::env::var_os("PBAS_GOLDEN")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

impl Golden {
    /// Opens `NAME.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = folder().join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { name: name.to_owned(), bytes }
    }

    /// A float32 (or uint8) tensor as float32, with its shape.
    pub fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let t = file.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
        let data = match t.dtype() {
            safetensors::Dtype::F32 => {
                t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            safetensors::Dtype::U8 => t.data().iter().map(|&b| f32::from(b)).collect(),
            other => panic!("{}: {name} is {other:?}", self.name),
        };
        (t.shape().to_vec(), data)
    }

    /// A float64 or int64 tensor as float64.
    pub fn series(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let t = file.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
        let eight = t.data().chunks_exact(8).map(|b| <[u8; 8]>::try_from(b).unwrap());
        match t.dtype() {
            safetensors::Dtype::F64 => eight.map(f64::from_le_bytes).collect(),
            safetensors::Dtype::I64 => eight.map(|b| i64::from_le_bytes(b) as f64).collect(),
            other => panic!("{}: {name} is {other:?}", self.name),
        }
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        file.names().into_iter().map(str::to_owned).collect()
    }

    /// A metadata string.
    pub fn text(&self, key: &str) -> String {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).expect("a safetensors header");
        let metadata = header.metadata().clone().expect("string metadata");
        metadata.get(key).unwrap_or_else(|| panic!("{}: no metadata `{key}`", self.name)).clone()
    }

    /// A metadata string that is a number.
    pub fn number(&self, key: &str) -> f64 {
        self.text(key).parse().expect("a number")
    }
}
