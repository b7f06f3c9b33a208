//! Twilio's formats, pure: media stream messages, request signatures, TwiML.

pub mod message;
pub mod rest;
pub mod signature;
pub mod twiml;
