//! The models in service, by name. One is put in the place of another in one step: requests already taken keep the one they were taken for.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pbas::{Error, Result};

use super::metrics::Metrics;
use crate::judge::Judge;
use crate::page::Models;

type ByName = BTreeMap<String, Arc<Judge>>;

/// Models by name. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    models: Arc<RwLock<ByName>>,
    metrics: Metrics,
}

impl Registry {
    /// None as yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, ..Self::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, ByName> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ByName> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a model into service, in place of the one of its name, if there is one.
    pub fn put(&self, judge: Judge) {
        let judge = Arc::new(judge);
        let mut models = self.write();
        let old = models.insert(judge.name.clone(), Arc::clone(&judge));
        if let Some(old) = old.filter(|old| old.digest != judge.digest) {
            self.metrics.model(&old.name, &old.digest, false);
        }
        self.metrics.model(&judge.name, &judge.digest, true);
    }

    /// Takes a model out of service.
    pub fn remove(&self, name: &str) {
        if let Some(old) = self.write().remove(name) {
            self.metrics.model(&old.name, &old.digest, false);
        }
    }

    /// The model of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Judge>> {
        self.read().get(name).map(Arc::clone)
    }

    /// All models, sorted by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Judge>> {
        self.read().values().map(Arc::clone).collect()
    }
}

impl Models for Registry {
    fn names(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    fn judge(&self, name: &str) -> Option<Arc<Judge>> {
        self.get(name)
    }

    fn replace(&self, name: &str, mut judge: Judge) -> Result<()> {
        if self.get(name).is_none() {
            return Err(Error::caller(format!("there is no model `{name}` in service")));
        }
        judge.name = name.to_owned();
        self.put(judge);
        Ok(())
    }
}
