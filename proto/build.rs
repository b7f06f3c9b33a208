//! Generates the contract's code without `protoc`: protox compiles the files, tonic-prost-build writes Rust.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// What the pair speaks, and what a worker speaks with an agent of somebody else's. Apart, since a worker's reflection tells
/// of what it serves and nothing else.
const CONTRACTS: [(&str, &[&str]); 2] = [
    ("tandem_descriptor.bin", &["tandem/voice/v1/voice_service.proto", "tandem/voice/v1/audio_service.proto"]),
    ("agent_descriptor.bin", &["tandem/agent/v1/agent.proto"]),
];

/// What is spoken with Google: no contract of ours, so nobody is told of it, and it has no part in reflection.
const GOOGLE: [&str; 2] = ["google/cloud/speech/v1/cloud_speech.proto", "google/cloud/texttospeech/v1/cloud_tts.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=tandem");
    println!("cargo::rerun-if-changed=google");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for (name, files) in CONTRACTS {
        let descriptors = protox::compile(files, ["."])?;
        fs::write(out.join(name), descriptors.encode_to_vec())?;
        tonic_prost_build::configure()
            .bytes(".")
            .codec_path("crate::FrameCodec")
            // Rare and large: unboxed they would make every frame's message, and each slot of a call's channels, as large.
            .boxed("ConverseRequest.message.open")
            .boxed("ConverseRequest.message.start")
            .boxed(".tandem.voice.v1.ConverseResponse.message.ready")
            .boxed("ConverseResponse.message.turn_metrics")
            .compile_fds(descriptors)?;
    }
    let google = protox::compile(GOOGLE, ["."])?;
    tonic_prost_build::configure().bytes(".").codec_path("crate::FrameCodec").compile_fds(google)?;
    Ok(())
}
