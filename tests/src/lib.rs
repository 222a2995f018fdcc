//! Tests on the real kernel: what they share. The tests themselves lie in `tests/tests/`.

pub mod skip;
