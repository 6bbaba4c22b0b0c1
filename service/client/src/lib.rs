//! For those who call `user.UserService`: a client that keeps to a deadline and tries again where that is safe, and a load
//! generator. It must not know how the service keeps users, nor the mesh.

mod client;
pub mod load;
mod retry;

pub use client::{Client, Policy};
