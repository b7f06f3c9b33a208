//! A stand-in for ElevenLabs' speech-to-text on a port of this machine: that for [`Deepgram`], with ElevenLabs' messages.

use std::{io, ops::Deref};

use crate::deepgram::{Deepgram, manner::Manner};

/// A running stand-in; gone when dropped. What it does and shows is what [`Deepgram`] does and shows.
#[derive(Debug)]
pub struct ElevenLabs(Deepgram);

impl ElevenLabs {
    /// Starts it on a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> io::Result<Self> {
        Ok(Self(Deepgram::start_as(Manner::ElevenLabs).await?))
    }
}

impl Deref for ElevenLabs {
    type Target = Deepgram;

    fn deref(&self) -> &Deepgram {
        &self.0
    }
}
