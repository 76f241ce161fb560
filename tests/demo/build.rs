//! Compiles the demo's proto file in pure Rust, so that `protoc` is not required.

use std::path::PathBuf;

use anyhow::Context;
use prost::Message;

fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["sandgate/demo/v1/echo.proto"], ["proto"])
        .context("compile tests/demo/proto")?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    // The descriptors that the reflection service returns.
    let descriptors = out.join("sandgate_demo_descriptor.bin");
    std::fs::write(&descriptors, files.encode_to_vec())
        .with_context(|| format!("write {}", descriptors.display()))?;
    tonic_prost_build::configure().compile_fds(files).context("generate Rust from the proto file")
}
