//! The workload that is rolled out: `user.UserService` over gRPC, stable and canary alike.
//! It must not know the controller, nor whether it is stable or canary.

mod aging;
mod calls;
mod clock;
pub mod config;
mod database;
mod fault;
mod grpc;
pub mod health;
mod http;
pub mod identity;
mod limits;
pub mod logging;
mod metrics;
mod page;
mod readiness;
pub mod server;
pub mod signals;
mod store;
mod trace;
mod validate;

pub use config::Config;
pub use server::{Server, ServerError};
pub use store::{DatabaseUrl, DatabaseUrlError};
