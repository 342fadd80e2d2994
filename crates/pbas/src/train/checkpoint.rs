//! The state of a head in training, in a file: a run that was stopped goes on and gives the same model, byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pbas_nn::weights::{self, NamedTensors, SaveDtype, Tensor};

use super::step::HeadTrainer;
use crate::head::Head;
use crate::{Error, Result};

/// A folder of checkpoints, one file a head.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    /// Identifies pictures, settings, backbone and program; a checkpoint of another run is not resumed.
    run: String,
}

impl Checkpoints {
    /// Checkpoints in `folder` of the run that `run` identifies.
    #[must_use]
    pub fn new(folder: PathBuf, run: String) -> Self {
        Self { folder, run }
    }

    fn path(&self, view: usize, head: usize) -> PathBuf {
        self.folder.join(format!("view{view}_head{head}.safetensors"))
    }

    /// Writes the state of one head; a file that is there is replaced whole or not at all.
    ///
    /// # Errors
    /// A folder that cannot be made or written.
    pub fn save(
        &self,
        view: usize,
        head: usize,
        trainer: &HeadTrainer,
        average: Option<&Head>,
    ) -> Result<()> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|e| Error::io("cannot make folder", &self.folder, e))?;
        let mut tensors = NamedTensors::new();
        let mut put = |name: String, data: &[f32]| {
            tensors.insert(name, Tensor { shape: vec![data.len()], data: data.to_vec() });
        };
        for (name, _, data) in trainer.head.tensors() {
            put(format!("head.{name}"), data);
        }
        for (name, _, data) in average.iter().flat_map(|a| a.tensors()) {
            put(format!("average.{name}"), data);
        }
        for (i, m) in trainer.moments.iter().enumerate() {
            put(format!("moment{i}.first"), &m.first);
            put(format!("moment{i}.second"), &m.second);
        }
        let metadata = BTreeMap::from([
            ("run".to_owned(), self.run.clone()),
            ("steps".to_owned(), trainer.steps.to_string()),
        ]);
        Ok(weights::save_safetensors(&tensors, &metadata, SaveDtype::F32, &self.path(view, head))?)
    }

    /// Puts a saved state into `trainer` and `average`; `false` where there is none.
    ///
    /// # Errors
    /// A damaged file, or one of another run.
    pub fn load(
        &self,
        view: usize,
        head: usize,
        trainer: &mut HeadTrainer,
        average: &mut Option<Head>,
    ) -> Result<bool> {
        let path = self.path(view, head);
        if !path.exists() {
            return Ok(false);
        }
        let (tensors, metadata) = weights::load_safetensors_with_metadata(&path)?;
        if metadata.get("run") != Some(&self.run) {
            return Err(Error::caller(format!(
                "checkpoint `{}`: expected one of this run, found one made with other pictures, settings or version",
                path.display()
            ))
            .with_hint("train without --resume to begin anew, or give the flags of the stopped run"));
        }
        let take = |name: &str, target: &mut [f32]| -> Result<()> {
            let found = tensors.get(name).filter(|t| t.data.len() == target.len());
            let tensor = found.ok_or_else(|| {
                Error::input(format!(
                    "checkpoint `{}`: tensor `{name}` is missing or of another size",
                    path.display()
                ))
            })?;
            target.copy_from_slice(&tensor.data);
            Ok(())
        };
        for (prefix, head) in [("head", Some(&mut trainer.head)), ("average", average.as_mut())] {
            let Some(head) = head else { continue };
            let names: Vec<&str> = head.tensors().iter().map(|(n, _, _)| *n).collect();
            for (name, target) in names.into_iter().zip(head.tensors_mut()) {
                take(&format!("{prefix}.{name}"), target)?;
            }
        }
        for (i, m) in trainer.moments.iter_mut().enumerate() {
            take(&format!("moment{i}.first"), &mut m.first)?;
            take(&format!("moment{i}.second"), &mut m.second)?;
        }
        trainer.steps = metadata.get("steps").and_then(|s| s.parse().ok()).ok_or_else(|| {
            Error::input(format!("checkpoint `{}`: the number of steps is missing", path.display()))
        })?;
        Ok(true)
    }

    /// Removes the checkpoints of a finished run, and the folder if nothing else is in it. What cannot be removed
    /// harms nobody: the next run checks whose it is.
    pub fn remove(&self, views: usize, heads: usize) {
        for (view, head) in (0..views).flat_map(|v| (0..heads).map(move |h| (v, h))) {
            let _ = std::fs::remove_file(self.path(view, head));
        }
        let _ = std::fs::remove_dir(&self.folder);
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
