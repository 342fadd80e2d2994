//! What a data set holds, in numbers, and what is odd about it. Headers of pictures are read, no pixels.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use rayon::prelude::*;
use serde::Serialize;

use super::{Category, DataSet, Label};
use crate::error::chain;
use crate::image::{DecodeOptions, dimensions};
use crate::train::observer::Observer;
use crate::words::listed;
use crate::{Error, ErrorKind, Result};

/// A data set in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Its layout.
    pub layout: &'static str,
    /// One a category.
    pub categories: Vec<CategoryFacts>,
    /// Categories that cannot be used: name and reason.
    pub broken: Vec<(String, String)>,
    /// What is odd about the whole.
    pub notes: Vec<String>,
}

/// A category in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CategoryFacts {
    /// Its name.
    pub name: String,
    /// Good pictures to learn from.
    pub train_good: usize,
    /// Good pictures kept apart for validation.
    pub validation_good: usize,
    /// Good test pictures.
    pub test_good: usize,
    /// Defective test pictures.
    pub test_defective: usize,
    /// Defective ones with a mask.
    pub masks: usize,
    /// Test pictures without labels.
    pub unlabelled: usize,
    /// Defective pictures by type.
    pub defect_types: BTreeMap<String, usize>,
    /// Sizes as `width x height`, with how many pictures have them.
    pub sizes: BTreeMap<String, usize>,
    /// What is odd, a sentence fragment each.
    pub oddities: Vec<String>,
}

impl DataSet {
    /// Counts, and reads the sizes from the headers of all pictures and masks.
    ///
    /// # Errors
    /// An interrupt; what cannot be read is an oddity.
    pub fn inspect(&self, observer: &dyn Observer) -> Result<Inspection> {
        let files: usize = self.categories.iter().map(|c| c.good.len() + c.test.samples.len()).sum();
        observer.begin("sizes", files as u64, "pictures");
        let categories = self.categories.iter().map(|c| facts(c, observer)).collect::<Result<_>>()?;
        observer.end();
        Ok(Inspection {
            layout: self.layout.name(),
            categories,
            broken: self.broken.iter().map(|(name, e)| (name.clone(), chain(e))).collect(),
            notes: self.notes.clone(),
        })
    }
}

fn facts(category: &Category, observer: &dyn Observer) -> Result<CategoryFacts> {
    let decode = DecodeOptions::default();
    let odd: Mutex<(Vec<String>, Vec<String>)> = Mutex::default();
    let size = |(path, mask): (&Path, Option<&Path>)| -> Result<Option<(usize, usize)>> {
        if observer.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped while looking at the data set"));
        }
        observer.advance(1);
        let found = dimensions(path, &decode);
        let masked = mask.filter(|m| m.is_file()).map(|m| dimensions(m, &decode));
        let mut odd = odd.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let name = || format!("`{}`", path.display());
        match (&found, masked) {
            (Err(e), _) => odd.0.push(chain(e)),
            (Ok(_), Some(Err(e))) => odd.0.push(chain(&e)),
            (Ok(size), Some(Ok(of_mask))) if *size != of_mask => odd.1.push(name()),
            _ => {}
        }
        Ok(found.ok())
    };
    let good = category.good.iter().map(|p| (p.as_path(), None));
    let test = category.test.samples.iter().map(|s| (s.path.as_path(), s.mask.as_deref()));
    let all: Vec<_> = good.chain(test).collect();
    let found = all.into_par_iter().map(size).collect::<Result<Vec<_>>>()?;
    let mut sizes = BTreeMap::new();
    for (w, h) in found.into_iter().flatten() {
        *sizes.entry(format!("{w} x {h}")).or_insert(0) += 1;
    }
    let defective = || category.test.samples.iter().filter(|s| s.label == Label::Defective);
    let mut defect_types = BTreeMap::new();
    for sample in defective() {
        *defect_types.entry(sample.defect_type.clone()).or_insert(0) += 1;
    }
    let (mut unreadable, mut unequal) = odd.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    unreadable.sort();
    unequal.sort();
    let mut oddities = category.test.warnings.clone();
    if !unreadable.is_empty() {
        oddities.push(format!("not readable: {}", listed(&unreadable)));
    }
    if !unequal.is_empty() {
        oddities.push(format!("masks of another size than the picture: {}", listed(&unequal)));
    }
    Ok(CategoryFacts {
        name: category.name.clone(),
        train_good: category.good.len(),
        validation_good: category.validation.len(),
        test_good: category.test.count(Label::Good),
        test_defective: category.test.count(Label::Defective),
        masks: defective().filter(|s| s.mask.is_some()).count(),
        unlabelled: category.unlabelled,
        defect_types,
        sizes,
        oddities,
    })
}
