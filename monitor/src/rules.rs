//! Rules outside of the pure crate: where they are written (`parse`, `files`, `presets`), and where the facts that they
//! are matched by come from (`facts`). What they mean is decided in [`monitor_core::rules`].

pub mod facts;
pub mod files;
pub mod measure;
pub mod parse;
pub mod presets;
pub(crate) mod sighting;
mod trust;
pub mod unguarded;

pub use monitor_core::rules::*;
