//! audio-worker
