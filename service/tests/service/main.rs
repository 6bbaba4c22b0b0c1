//! The service as its clients meet it: over its ports, in this process, or as the program itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod crud;
mod faults;
mod harness;
mod operation;
mod paging;
mod process;
mod shutdown;
