//! Tools that look at the pair from outside: nothing here is linked into either service.
//!
//! - [`sim`]: the simulated Twilio, one phone call at a time, with a report.
//! - [`signal`]: pure measurements on 8 kHz audio: delay, signal to noise, frame edges, tone onsets, keys.
//! - [`stack`]: both services in this process, for whole-system tests; [`mod@line`] calls them by hand, and [`scripted`]
//!   is an agent that does what the keys say; [`throttle`] is a bad line before or between them.
//! - [`world`]: the pair with a simulated account to dial through and [`calls_api`], a client of the calls API;
//!   [`receiver`] is a user's webhook for call events.
//! - [`openai`]: a stand-in for OpenAI, with fixed delays, faults on demand, and room for a real recogniser and voice.
//! - [`mod@deepgram`]: a stand-in for Deepgram, which listens while somebody speaks.
//! - [`mod@google`]: a stand-in for Google's speech-to-text, which does so over gRPC.
//! - [`mod@elevenlabs`]: the same for ElevenLabs.
//! - [`realtime`]: a stand-in for a realtime server, which hears and speaks by itself.
//! - [`remote`]: a stand-in for an agent that is a service of its own, and what such agents do wrong; [`conformance`] are the
//!   checks that a good one passes.
//! - [`shop`]: a service of the user's that tools ask.
//! - [`talk`]: callers who converse with an agent.
//! - [`log`]: what the services log, and [`secrets`], which must not be in it.
//! - [`fuzz`]: what the fuzzers run.
//! - [`load`]: many cheap calls at once, and what the servers spend on them.
//! - [`pair`]: both services as processes of their own.
//! - [`corpus`]: speech, noise and disturbances with a known truth, and [`hearing`], how well and how fast a detector tells
//!   them apart.
//! - [`replaying`]: captured calls, played again from the command line.
//! - [`demo`]: what is told about one call to them.

pub mod calls_api;
pub mod conformance;
pub mod corpus;
pub mod deepgram;
pub mod demo;
pub mod elevenlabs;
pub mod fuzz;
pub mod google;
pub mod hearing;
pub mod line;
pub mod load;
pub mod log;
pub mod openai;
pub mod pair;
pub mod realtime;
pub mod receiver;
pub mod remote;
pub mod replaying;
pub mod scripted;
pub mod secrets;
pub mod shop;
pub mod signal;
pub mod sim;
pub mod stack;
pub mod talk;
pub mod throttle;
pub mod world;
