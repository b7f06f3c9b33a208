//! The codec of both services: prost, with buffers that fit a 20 ms frame.

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// A buffer of a stream, in bytes: five frames. tonic's own 8 KiB, twice at each end of each call, were a third of
/// the memory of a call (measured); larger messages make the buffer grow.
const BUFFER_BYTES: usize = 1 << 10;

/// Encoded bytes that are gathered before they are handed on: tonic's default.
const YIELD_BYTES: usize = 32 << 10;

/// prost with small buffers.
#[derive(Debug, Clone)]
pub struct FrameCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for FrameCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T, U> Codec for FrameCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
