//! The control socket: newline-delimited JSON between the agent and its clients. `protocol` says what is on the
//! wire, `codec` turns bytes into calls, `listen` makes the socket, `door`
//! keeps it there, `server` (with `connection`, `limits` and `gate`) and
//! `client` carry it, `request` is how the server hands a call to the agent.
//!
//! Invariant: no input stops the agent; each malformed line is answered with an error that names what is wrong.

pub mod client;
pub mod codec;
mod connection;
pub mod door;
mod gate;
mod limits;
pub mod listen;
pub mod protocol;
pub mod request;
pub mod server;
