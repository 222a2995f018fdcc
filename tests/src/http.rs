//! One HTTP request, as a test writes it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result};

use crate::clock::{PATIENCE, scaled};

/// The whole answer to `REQUEST HTTP/1.1` at `address`, headers included.
///
/// # Errors
/// Nobody listens, or the answer does not come.
pub fn get(address: &str, request: &str) -> Result<String> {
    get_as(address, request, address)
}

/// The same, for another host than the one that is asked.
///
/// # Errors
/// As [`get`].
pub fn get_as(address: &str, request: &str, host: &str) -> Result<String> {
    raw(address, &format!("{request} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

/// The whole answer to what is written so.
///
/// # Errors
/// As [`get`].
pub fn raw(address: &str, head: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    stream.set_read_timeout(Some(scaled(PATIENCE)))?;
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The answer's body.
#[must_use]
pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
