//! Serin: a canary rollout controller for Kubernetes on Linkerd that rolls back in Git.
//!
//! The library exists for the binary `serin` and for the tests; `docs/` says how to use it.
//!
//! Import direction: `serin_core` ← [`api`] ← [`board`], [`metrics`], [`callout`] ← `view`, adapters ([`prometheus`], [`traffic`], [`gitops`],
//! [`delivery`], [`notify`], [`hooks`]) ← [`reconcile`], [`web`] ← [`cli`].

pub mod api;
pub mod board;
pub mod callout;
pub mod cli;
pub mod delivery;
pub mod gitops;
pub mod hooks;
pub mod linkerd;
pub mod metrics;
pub mod notify;
pub mod prometheus;
pub mod query;
pub mod reconcile;
pub mod runtime;
pub mod traffic;
mod view;
pub mod web;
