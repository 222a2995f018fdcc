//! The control socket: newline-delimited JSON between the agent and its clients. `protocol` says what is on the
//! wire, `codec` turns bytes into calls, `listen` makes the socket, `listener`
//! keeps it there, `server` (with `connection`, `limits` and `admission`) and
//! `client` carry it, `request` is how the server hands a call to the agent.
//!
//! Invariant: no input stops the agent; each malformed line is answered with an error that names what is wrong.

mod admission;
pub mod answers;
pub mod client;
pub mod codec;
mod connection;
mod limits;
pub mod listen;
pub mod listener;
pub mod protocol;
pub mod request;
pub mod server;
