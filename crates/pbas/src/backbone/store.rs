//! Imported backbones: a folder of safetensors files, each checked once and used by its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pbas_nn::weights::{self, SaveDtype};
use serde::Serialize;

use super::{Backbone, known};
use crate::{Error, Result};

/// The name of the backbone inside the program.
pub const EMBEDDED_NAME: &str = "efficientnet_lite0";
const EXTENSION: &str = "safetensors";

/// The numbers in which weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// Half the room; features differ in the fourth digit.
    Float16,
    /// As published.
    Float32,
}

/// A folder of imported backbones.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// A backbone in the store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Imported {
    /// The name to use it by.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
}

impl Store {
    /// A store in this folder, which need not exist yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of a name.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.{EXTENSION}"))
    }

    /// What is in it, by name.
    ///
    /// # Errors
    /// A folder that is there and cannot be read.
    pub fn list(&self) -> Result<Vec<Imported>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io("cannot read folder", &self.dir, e))?,
        };
        let imported = |path: PathBuf| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let whole = path.extension()? == EXTENSION && check_name(&name).is_ok();
            let bytes = std::fs::metadata(&path).ok()?.len();
            whole.then_some(Imported { name, path, bytes })
        };
        let mut all: Vec<Imported> = entries.flatten().filter_map(|e| imported(e.path())).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Checks a weight file, converts it and keeps it as `name` (by default that of its architecture). Classifier weights are left out.
    ///
    /// # Errors
    /// A file that is no backbone of a known architecture, a name that cannot be a file's, one that is taken, or a folder that cannot be written.
    pub fn import(
        &self,
        file: &Path,
        name: Option<&str>,
        format: WeightFormat,
        (licence, replace): (Option<&str>, bool),
    ) -> Result<(Imported, Backbone)> {
        let shown = file.display().to_string();
        let context = |e: Error| e.context(format!("cannot import `{shown}`"));
        let bytes = std::fs::read(file).map_err(|e| Error::io("cannot read backbone", file, e))?;
        let mut tensors = BTreeMap::new();
        let mut backbone = Backbone::with_digest(&bytes, || {
            tensors = weights::parse(&bytes, &shown)?;
            Backbone::from_tensors(&tensors)
        })
        .map_err(context)?;
        tensors.retain(|name, _| !name.starts_with("fc.") && !name.starts_with("_fc."));
        let name = name.unwrap_or(&backbone.info.name).to_owned();
        check_name(&name)?;
        let path = self.path(&name);
        if name == EMBEDDED_NAME || (path.exists() && !replace) {
            return Err(Error::caller(format!("cannot import `{shown}`: the name `{name}` is taken"))
                .with_hint("give another `--name`, or `--force` to replace what was imported"));
        }
        let source = file.file_name().map_or_else(|| shown.clone(), |n| n.to_string_lossy().into_owned());
        let of_known = known(&name).map(|k| k.licence);
        backbone.info.licence = licence.or(of_known).unwrap_or(&backbone.info.licence).to_owned();
        backbone.info.source = source;
        let metadata = BTreeMap::from([
            ("source".to_owned(), backbone.info.source.clone()),
            ("source_sha256".to_owned(), backbone.info.weights_sha256.clone()),
            ("licence".to_owned(), backbone.info.licence.clone()),
        ]);
        let dtype = match format {
            WeightFormat::Float16 => SaveDtype::F16,
            WeightFormat::Float32 => SaveDtype::F32,
        };
        std::fs::create_dir_all(&self.dir).map_err(|e| Error::io("cannot make folder", &self.dir, e))?;
        weights::save_safetensors(&tensors, &metadata, dtype, &path).map_err(|e| context(e.into()))?;
        let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
        Ok((Imported { name, path, bytes }, backbone))
    }

    /// The backbone that a person means by `given`: a file, one that was imported, or the one inside the program.
    ///
    /// # Errors
    /// None of these; a name that can be fetched is said to be one.
    pub fn resolve(&self, given: &Path) -> Result<Backbone> {
        let name = given.to_str().filter(|n| check_name(n).is_ok());
        let Some(name) = name.filter(|_| !given.is_file()) else { return Backbone::from_file(given) };
        let path = self.path(name);
        if path.is_file() {
            return self.load(&path);
        }
        if name == EMBEDDED_NAME {
            return Backbone::embedded();
        }
        let error = Error::caller(format!(
            "backbone `{name}`: found neither a file nor an imported backbone of this name"
        ));
        Err(match known(name) {
            Some(_) => error.with_hint(format!("`pbas backbone fetch {name}` downloads it; `pbas backbone import FILE` takes a file that you have")),
            None => error.with_hint("`pbas backbone list` names those that there are"),
        })
    }

    fn load(&self, path: &Path) -> Result<Backbone> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| Error::io("cannot read backbone", path, e))?;
        let mut metadata = BTreeMap::new();
        let mut backbone = Backbone::with_digest(&bytes, || {
            let (tensors, found) = weights::read_safetensors_with_metadata(&bytes, &name)?;
            metadata = found;
            Backbone::from_tensors(&tensors)
        })
        .map_err(|e| e.context(format!("cannot load backbone `{name}`")))?;
        backbone.info.source =
            path.file_name().map_or_else(|| name.clone(), |n| n.to_string_lossy().into_owned());
        if let Some(licence) = metadata.get("licence") {
            backbone.info.licence.clone_from(licence);
        }
        if let Some(source) = metadata.get("source") {
            backbone.info.source.clone_from(source);
        }
        Ok(backbone)
    }
}

/// Names are those of files, and no paths.
///
/// # Errors
/// Says what a name may hold.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.len() <= 100 && name.chars().all(plain) {
        return Ok(());
    }
    Err(Error::caller(format!("backbone name: expected letters, digits, `_` and `-`, found `{name}`")))
}
