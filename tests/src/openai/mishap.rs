//! Pure: what goes wrong at a stage, on request.

use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The connection is closed instead of an answer.
    Down,
    /// Nothing ever comes back.
    Silent,
    /// The answer comes so much later.
    Slow(Duration),
    /// A page in HTML, with 200.
    Html,
    /// The first half of an answer in JSON, with 200; of a streamed one, half a piece after the first half of them.
    HalfJson,
    /// 200, and nothing.
    Nothing,
    /// A voice in a WAV file of 22,050 Hz. For speech only.
    WrongRate,
    /// An error in JSON that is called sound. For speech only.
    ErrorText,
    /// An error in the middle of a streamed answer. For chat only.
    ErrorMidway,
    /// The connection is closed after half of the answer.
    CloseEarly,
    /// 401, though the key is right.
    Unauthorized,
    /// 429.
    TooMany {
        /// `Retry-After`, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// 500.
    Internal,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// For so many requests, at least one.
    Times(u32),
    /// Until it is mended.
    Lasting,
}

impl Extent {
    /// Counts a request; true when it was the last.
    pub(super) fn is_last(&mut self) -> bool {
        match self {
            Self::Times(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            Self::Lasting => false,
        }
    }
}
