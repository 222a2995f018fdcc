//! How BTF is laid out: header, sections, and the fixed part of a type (include/uapi/linux/btf.h, kernel 6.18). What is
//! looked up in it is `btf`'s.

use bytes::{Buf, Bytes};

use super::BtfError;

pub(super) const MAGIC: u16 = 0xeb9f;

/// Kinds with trailing data that we step over or read.
pub(super) mod kind {
    pub(in crate::kernel::btf) const INT: u32 = 1;
    pub(in crate::kernel::btf) const POINTER: u32 = 2;
    pub(in crate::kernel::btf) const ARRAY: u32 = 3;
    pub(in crate::kernel::btf) const STRUCT: u32 = 4;
    pub(in crate::kernel::btf) const UNION: u32 = 5;
    pub(in crate::kernel::btf) const ENUM: u32 = 6;
    pub(in crate::kernel::btf) const FORWARD: u32 = 7;
    pub(in crate::kernel::btf) const TYPEDEF: u32 = 8;
    pub(in crate::kernel::btf) const FUNC: u32 = 12;
    pub(in crate::kernel::btf) const FUNC_PROTO: u32 = 13;
    pub(in crate::kernel::btf) const VAR: u32 = 14;
    pub(in crate::kernel::btf) const DATASEC: u32 = 15;
    pub(in crate::kernel::btf) const DECL_TAG: u32 = 17;
    pub(in crate::kernel::btf) const ENUM64: u32 = 19;
    pub(in crate::kernel::btf) const LAST: u32 = 19;
}

/// One type's fixed part.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) name: u32,
    pub(super) info: u32,
}

impl Type {
    pub(super) fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    pub(super) fn members(self) -> u32 {
        self.info & 0xffff
    }

    /// Whether member offsets carry a bit-field size in their top byte.
    pub(super) fn bit_fields(self) -> bool {
        self.info >> 31 == 1
    }

    /// The length of what follows the fixed part.
    pub(super) fn trailer(self) -> Result<usize, BtfError> {
        let each = match self.kind() {
            kind::INT | kind::VAR | kind::DECL_TAG => return Ok(4),
            kind::ARRAY => return Ok(12),
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12,
            kind::ENUM | kind::FUNC_PROTO => 8,
            known if (1..=kind::LAST).contains(&known) => 0,
            _ => return Err(BtfError::Malformed("a type of an unknown kind")),
        };
        Ok(each * self.members() as usize)
    }
}

/// The length of a type's fixed part: name, info, and a size or a type id.
pub(super) const FIXED: usize = 12;

/// The second word of a type that says nothing and has no trailer: a forward declaration.
pub(super) const PLACEHOLDER: u32 = kind::FORWARD << 24;

/// The length of a header of version 1.
const HEADER: u32 = 24;

/// A BTF blob of types without trailers.
pub(super) fn blob(types: &[[u32; 3]], strings: &[u8]) -> Vec<u8> {
    let len = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let (types_len, strings_len) = (len(FIXED * types.len()), len(strings.len()));
    let mut blob = Vec::with_capacity(HEADER as usize + FIXED * types.len() + strings.len());
    blob.extend(MAGIC.to_ne_bytes());
    blob.extend([1, 0]);
    for word in [HEADER, 0, types_len, types_len, strings_len].iter().chain(types.iter().flatten()) {
        blob.extend(word.to_ne_bytes());
    }
    blob.extend(strings);
    blob
}

/// Type and string sections of a BTF blob.
pub(super) fn sections(data: Bytes) -> Result<(Bytes, Bytes), BtfError> {
    let cut = BtfError::Malformed("the header is cut short");
    let mut header = data.get(..HEADER as usize).ok_or(cut)?;
    if header.get_u16_ne() != MAGIC {
        return Err(BtfError::Malformed("the magic number is another one"));
    }
    let _version_and_flags = header.get_u16_ne();
    let base = header.get_u32_ne() as usize;
    let section = |offset: u32, len: u32| {
        let start = base.checked_add(offset as usize)?;
        let end = start.checked_add(len as usize)?;
        (end <= data.len()).then(|| data.slice(start..end))
    };
    let types = section(header.get_u32_ne(), header.get_u32_ne());
    let strings = section(header.get_u32_ne(), header.get_u32_ne());
    types.zip(strings).ok_or(BtfError::Malformed("a section lies outside the data"))
}
