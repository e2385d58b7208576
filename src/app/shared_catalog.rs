//! [`SharedCatalog`]: the catalog as it is now, for all threads.
//!
//! Holds and logs; what ConfigMaps mean is read in [`super::catalog`].

use super::catalog::{Catalog, Note};
use crate::kube::types::ConfigMap;
use crate::model::status::Budgets;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The catalog as it is now.
#[derive(Debug, Default)]
pub struct SharedCatalog {
    current: RwLock<Arc<Catalog>>,
    is_read: AtomicBool,
}

impl SharedCatalog {
    /// An empty catalog; these budgets are the defaults for annotations.
    #[must_use]
    pub fn new(budgets: Budgets) -> Self {
        Self {
            current: RwLock::new(Arc::new(Catalog::new(budgets))),
            is_read: AtomicBool::new(false),
        }
    }

    /// The catalog as it is now.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the ConfigMaps have been read once, shortly after their store is synced. Until then
    /// the catalog is empty, and no response may be made from it.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::SeqCst)
    }

    /// Reads the ConfigMaps again, and logs changes.
    pub fn update(&self, config_maps: &[Arc<ConfigMap>]) {
        let (catalog, notes) = Catalog::read(config_maps, &self.current());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.is_read.store(true, Ordering::SeqCst);
        for note in notes {
            log_note(&note);
        }
    }
}

fn log_note(note: &Note) {
    match note {
        Note::Read {
            app_type,
            config_map,
            problem: None,
        } => {
            log::info!("app type {app_type} is on offer, from ConfigMap {config_map}");
        }
        Note::Read {
            app_type,
            config_map,
            problem: Some(problem),
        } => {
            log::warn!(
                "app type {app_type} of ConfigMap {config_map} cannot be started: {problem}"
            );
        }
        Note::Duplicate {
            app_type,
            used,
            ignored,
        } => {
            log::warn!("app type {app_type} is in two ConfigMaps: {used} is used, {ignored} is not")
        }
        Note::Gone(app_type) => log::info!("app type {app_type} is no longer on offer"),
    }
}
