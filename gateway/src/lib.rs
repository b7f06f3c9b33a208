//! gateway
pub mod ticket;
pub mod twilio;
