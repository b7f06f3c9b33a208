//! gateway
pub mod session;
pub mod ticket;
pub mod twilio;
