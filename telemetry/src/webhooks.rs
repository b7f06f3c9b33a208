//! What telling a user's own webhook has the same for both services: how it is signed, and when it is tried again.

pub mod courier;
pub mod outbox;
pub mod signature;
