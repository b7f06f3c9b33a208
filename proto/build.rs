//! Generates the contract's code without `protoc`: protox compiles the files, tonic-prost-build writes Rust.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 2] = ["tandem/voice/v1/voice_service.proto", "tandem/voice/v1/audio_service.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=tandem");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("tandem_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::FrameCodec")
        // Rare and large: unboxed they would make every frame's message, and each slot of a call's channels, as large.
        .boxed("ConverseRequest.message.open")
        .boxed("ConverseResponse.message.ready")
        .boxed("ConverseResponse.message.turn_metrics")
        .compile_fds(descriptors)?;
    Ok(())
}
