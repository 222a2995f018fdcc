//! The object with programs that do nothing, for measuring what a hook costs by itself. Not part of the product: only the
//! bench asks for this feature.

/// The object; `None`: this build has no kernel side.
#[cfg(ebpf_object)]
#[must_use]
pub fn object() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty")))
}

/// None: this build has no kernel side.
#[cfg(not(ebpf_object))]
#[must_use]
pub fn object() -> Option<&'static [u8]> {
    None
}
