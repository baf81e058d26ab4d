//! An instance in the hands of a batch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use uuid::Uuid;

use crate::alphabet::Finite;
use crate::commit::{Commit, InstanceRow, StoredInstance};
use crate::failure::Failure;
use crate::message::Body;
use crate::saga::{Instance, Saga};

/// An instance while a batch works on it: what it is now, and what the store must still hold when it is written.
#[derive(Debug, Clone)]
pub(crate) struct Live<S: Saga> {
    pub(crate) instance: Instance<S>,
    loaded: u64,
    /// The instance's data as JSON; absent until it is stored or moved.
    pub(super) data: Option<Body>,
}

impl<S: Saga> Live<S> {
    /// An instance that is not stored yet.
    pub(crate) fn new(id: Uuid) -> Self {
        Self { instance: Instance::new(id), loaded: 0, data: None }
    }

    /// The instance `id` as it is stored, or a new one. What panics in the saga's own code (`Default`, `Deserialize`)
    /// is a failure of the message that needs the instance.
    pub(crate) fn load(id: Uuid, stored: Option<&StoredInstance>) -> Result<Self, Failure> {
        let load = || stored.map_or_else(|| Ok(Self::new(id)), Self::restore);
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| Err(Failure::panicked(&*panic)))
    }

    /// A copy of the instance, to return to when its step fails. The saga's own `Clone` may panic.
    pub(super) fn copy(&self) -> Result<Instance<S>, Failure> {
        catch_unwind(AssertUnwindSafe(|| self.instance.clone())).map_err(|panic| Failure::panicked(&*panic))
    }

    /// Reads a stored instance. What a newer version wrote is not misread: it is a failure of the message, which is tried
    /// again, because the newer version may run beside this one and take it then.
    pub(crate) fn restore(stored: &StoredInstance) -> Result<Self, Failure> {
        let unreadable = |what: &str, error: &dyn std::fmt::Display| {
            Failure::retry(format!("instance {} of saga {} has {what}: {error}", stored.id, S::NAME))
        };
        let state = S::State::from_name(&stored.state)
            .ok_or_else(|| unreadable("a state that this version does not know", &stored.state))?;
        let data = stored.data.read().map_err(|error| unreadable("data that this version can not read", &error))?;
        let timers = stored.timers.read().map_err(|error| unreadable("timers that can not be read", &error))?;
        let instance = Instance { id: stored.id, state, data, version: stored.version, timers };
        Ok(Self { instance, loaded: stored.version, data: Some(stored.data.clone()) })
    }

    /// Adds the instance to the commit, if it has moved.
    pub(crate) fn write(&self, commit: &mut Commit) {
        let it = &self.instance;
        if it.version > self.loaded {
            commit.instances.push(InstanceRow {
                saga: S::NAME,
                id: it.id,
                expected: self.loaded,
                version: it.version,
                state: it.state.name(),
                data: self.data.as_ref().map_or_else(|| Body::of(&it.data), Body::clone).as_str().to_owned(),
                timers: Body::of(&it.timers).as_str().to_owned(),
            });
        }
    }
}
