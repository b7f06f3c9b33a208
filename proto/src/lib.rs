//! The contracts: between the gateway and the audio-worker, `tandem.voice.v1`, and between the worker and an agent that is
//! a service of its own, `tandem.agent.v1`. Beside them what is spoken with Google, which is no contract of ours.
//!
//! Everything but the codec is generated from `tandem/*/v1/*.proto` and `google/`; those files are where messages and fields
//! are documented.

mod codec;

pub use codec::FrameCodec;

/// Version 1 of the contract of the pair.
#[allow(
    clippy::doc_lazy_continuation,
    clippy::doc_overindented_list_items,
    rustdoc::invalid_html_tags,
    reason = "generated code and its comments"
)]
pub mod v1 {
    tonic::include_proto!("tandem.voice.v1");
}

/// The contract of a worker and an agent.
pub mod agent {
    /// Version 1 of it.
    #[allow(
        clippy::doc_lazy_continuation,
        clippy::doc_overindented_list_items,
        rustdoc::invalid_html_tags,
        reason = "generated code and its comments"
    )]
    pub mod v1 {
        tonic::include_proto!("tandem.agent.v1");
    }

    /// The encoded `FileDescriptorSet` of the contract, for the gRPC reflection of agents.
    pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent_descriptor.bin"));
}

/// What of Google's Speech-to-Text is spoken with it, in its version 1.
#[allow(
    clippy::doc_lazy_continuation,
    clippy::doc_overindented_list_items,
    rustdoc::invalid_html_tags,
    reason = "generated code and its comments"
)]
pub mod google_speech {
    tonic::include_proto!("google.cloud.speech.v1");
}

/// What of Google's Text-to-Speech is spoken with it, in its version 1.
#[allow(
    clippy::doc_lazy_continuation,
    clippy::doc_overindented_list_items,
    rustdoc::invalid_html_tags,
    reason = "generated code and its comments"
)]
pub mod google_text_to_speech {
    tonic::include_proto!("google.cloud.texttospeech.v1");
}

/// The encoded `FileDescriptorSet` of the pair's contract, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tandem_descriptor.bin"));
