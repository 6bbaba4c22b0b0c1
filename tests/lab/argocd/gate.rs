//! Stops reconciliation for as long as somebody wants, for all Applications or for one. It must not know what is stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::watch;

/// Those who work enter it, who stops them shuts it and waits until they are out.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    shut_for: BTreeSet<String>,
    inside: BTreeMap<String, usize>,
}

impl State {
    fn is_shut(&self, name: &str) -> bool {
        self.shut || self.shut_for.contains(name)
    }
}

/// Work is going on, until this is dropped.
#[derive(Debug)]
pub(super) struct Open {
    gate: Gate,
    name: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gate.state.send_modify(|state| {
            let count = state.inside.remove(&self.name).unwrap_or_default();
            if count > 1 {
                state.inside.insert(self.name.clone(), count - 1);
            }
        });
    }
}

impl Gate {
    /// Waits until the work may go on.
    pub(super) async fn enter(&self, name: &str) -> Open {
        let mut state = self.state.subscribe();
        loop {
            // The sender is this gate's own: it is not gone.
            let _ = state.wait_for(|state| !state.is_shut(name)).await;
            let entered = self.state.send_if_modified(|state| {
                let open = !state.is_shut(name);
                if open {
                    *state.inside.entry(name.to_owned()).or_default() += 1;
                }
                open
            });
            if entered {
                return Open {
                    gate: self.clone(),
                    name: name.to_owned(),
                };
            }
        }
    }

    /// Shuts it, and waits until the work that goes on is done. Without a name it is shut for all.
    pub(super) async fn shut(&self, name: Option<&str>) {
        let mut state = self.state.subscribe();
        self.state.send_modify(|state| match name {
            None => state.shut = true,
            Some(name) => {
                state.shut_for.insert(name.to_owned());
            }
        });
        let is_out = |state: &State| name.map_or(state.inside.is_empty(), |name| !state.inside.contains_key(name));
        let _ = state.wait_for(is_out).await;
    }

    /// Opens it again.
    pub(super) fn open(&self, name: Option<&str>) {
        self.state.send_modify(|state| match name {
            None => state.shut = false,
            Some(name) => {
                state.shut_for.remove(name);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_is_stopped_without_the_others() {
        let gate = Gate::default();
        gate.shut(Some("a")).await;
        gate.shut(Some("a")).await;
        assert!(timeout(SHORT, gate.enter("a")).await.is_err());
        assert!(timeout(SHORT, gate.enter("b")).await.is_ok());
        gate.open(Some("a"));
        assert!(timeout(SHORT, gate.enter("a")).await.is_ok());
    }

    #[tokio::test]
    async fn all_are_stopped_when_the_work_is_done() {
        let gate = Gate::default();
        let open = gate.enter("a").await;
        assert!(timeout(SHORT, gate.shut(None)).await.is_err());
        drop(open);
        gate.shut(None).await;
        assert!(timeout(SHORT, gate.enter("b")).await.is_err());
        gate.open(None);
        assert!(timeout(SHORT, gate.enter("b")).await.is_ok());
    }
}
