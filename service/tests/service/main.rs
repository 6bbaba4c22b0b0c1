//! The service as its clients meet it: over its ports, in this process, or as the program itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod crud;
mod dashboard;
mod errors;
mod faults;
mod harness;
mod limits;
mod operation;
mod paging;
#[path = "../postgres/mod.rs"]
mod postgres;
mod process;
mod readme;
#[path = "../resources/mod.rs"]
mod resources;
mod shutdown;
mod tracing;
