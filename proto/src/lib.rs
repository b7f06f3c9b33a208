//! The contract between the gateway and the audio-worker, `tandem.voice.v1`.
//!
//! Everything but the codec is generated from `tandem/voice/v1/*.proto`; those files are where messages and fields
//! are documented.

mod codec;

pub use codec::FrameCodec;

/// Version 1 of the contract.
#[allow(
    clippy::doc_lazy_continuation,
    clippy::doc_overindented_list_items,
    rustdoc::invalid_html_tags,
    reason = "generated code and its comments"
)]
pub mod v1 {
    tonic::include_proto!("tandem.voice.v1");
}

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tandem_descriptor.bin"));
