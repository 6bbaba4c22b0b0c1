//! The contract beside the last released one, and its style.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod breaking;
mod style;

use std::path::Path;

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// `user.proto` in this folder of the crate.
fn contract(folder: &str) -> FileDescriptorProto {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let compiled = protox::compile(["user/user.proto"], [root]).unwrap();
    // Through bytes, as protox has types of its own version's.
    let set = FileDescriptorSet::decode(&*compiled.encode_to_vec()).unwrap();
    set.file.into_iter().find(|file| file.package() == "user").unwrap()
}
