//! The control socket: newline-delimited JSON between the agent and its clients. `protocol` says what is on the
//! wire, `server` and `client` carry it, `request` is how the server hands a call to the agent.
//!
//! Invariant: no input stops the agent; each malformed line is answered with an error that names what is wrong.

pub mod protocol;
pub mod request;
