//! Generates the wire types; protox parses the file, so no protoc is needed.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=fanout.proto");
    let descriptors = protox::compile(["fanout.proto"], ["."])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("fanout.bin"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    #[cfg(feature = "grpc")]
    config.service_generator(tonic_prost_build::configure().service_generator());
    config.compile_fds(descriptors)?;
    Ok(())
}
