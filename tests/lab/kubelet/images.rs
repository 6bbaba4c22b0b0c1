//! What image references stand for: a program of this machine and the environment that is baked in. It must not know who
//! runs them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

/// What is in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The entry point.
    pub program: PathBuf,
    /// Its arguments, unless the container brings its own.
    pub args: Vec<String>,
    /// The environment that is baked in; the container's own goes before it.
    pub env: BTreeMap<String, String>,
}

impl Image {
    /// An image that runs this program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
        }
    }

    /// Adds a default argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Bakes a variable in.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }
}

/// The registry of the lab. Clones share one store; it may change at any time.
#[derive(Debug, Clone)]
pub struct Images {
    known: Arc<RwLock<BTreeMap<String, Image>>>,
    changes: Arc<watch::Sender<()>>,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            changes: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Images {
    /// Makes the reference stand for this image, as a push to a registry would. Containers that wait for it start.
    pub fn add(&self, reference: impl Into<String>, image: Image) {
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(reference.into(), image);
        self.changes.send_replace(());
    }

    /// Forgets the reference. What runs already goes on.
    pub fn remove(&self, reference: &str) {
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(reference);
        self.changes.send_replace(());
    }

    /// The image, if the reference is known.
    pub fn get(&self, reference: &str) -> Option<Image> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(reference)
            .cloned()
    }

    /// Marked as changed after each change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}
