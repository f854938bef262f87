//! Generates the wire types; protox parses the file, so no protoc is needed.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=fanout.proto");
    let descriptors = protox::compile(["fanout.proto"], ["."])?;
    let out = env::var("OUT_DIR")?;
    fs::write(
        Path::new(&out).join("fanout.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
