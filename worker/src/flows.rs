//! The flows of the runs at hand, kept so that each version is read once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use millstream_shared::{
    flow::Flow,
    id::FlowId,
    store::{Store, StoreError},
};

/// How many versions of flows are kept. Past that all are forgotten at once:
/// simple, and rare.
const KEPT_MAX: usize = 1000;

#[derive(Default)]
pub(crate) struct Flows {
    kept: Mutex<HashMap<(FlowId, u32), Arc<Flow>>>,
}

impl Flows {
    /// A version of a flow, or none where it is gone.
    pub(crate) async fn version(
        &self,
        store: &Store,
        id: &FlowId,
        version: u32,
    ) -> Result<Option<Arc<Flow>>, StoreError> {
        let name = (id.clone(), version);
        if let Some(flow) = self.kept().get(&name) {
            return Ok(Some(Arc::clone(flow)));
        }
        let Some(flow) = store.flow_version(id, version).await? else {
            return Ok(None);
        };
        let flow = Arc::new(flow);
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(name, Arc::clone(&flow));
        Ok(Some(flow))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<(FlowId, u32), Arc<Flow>>> {
        // A map that a panic left is still a map of immutable versions.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
