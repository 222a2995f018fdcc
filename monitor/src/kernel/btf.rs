//! Where things lie in the running kernel: struct offsets, enum values and tracepoints, read from its BTF
//! (Documentation/bpf/btf.rst). One pass that keeps only what it was asked for; no CO-RE, no type graph. How BTF is
//! laid out is in `layout`.
//!
//! Source: `/sys/kernel/btf/vmlinux`, 5 to 10 MB, in the machine's own byte order.

mod layout;

use std::collections::HashMap;

use bytes::{Buf, Bytes};

use self::layout::{FIXED, Type, kind, sections};
use super::hook::{Hook, Place};

/// Why a number of the kernel could not be found.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// There is no BTF: the kernel was built without `CONFIG_DEBUG_INFO_BTF`.
    #[error("{path} does not exist: the kernel was built without BTF (CONFIG_DEBUG_INFO_BTF)")]
    Missing {
        /// The file.
        path: String,
    },
    /// It can't be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not BTF as we know it.
    #[error("BTF is malformed: {0}")]
    Malformed(&'static str),
    /// This kernel has no such struct, field or enumerator.
    #[error("this kernel has no {0}")]
    NoSuch(String),
}

/// The kernel's types, indexed by name as far as it is needed here.
pub struct Btf {
    types: Bytes,
    strings: Bytes,
    /// Where each type begins in `types`; index 0 is void.
    starts: Vec<u32>,
    /// Structs by name; the first of a name.
    structs: HashMap<Bytes, u32>,
    /// Typedefs by name: `btf_trace_NAME` is a tracepoint.
    tracepoints: HashMap<Bytes, u32>,
    /// Functions that programs are attached to, by name.
    functions: HashMap<Bytes, u32>,
    enums: Vec<u32>,
}

/// How many members are looked at for one field. The largest struct of kernel 6.18 has some hundreds; a union that
/// holds itself would have no end of them.
const MOST_MEMBERS: u32 = 1 << 16;

/// How many steps lead from a tracepoint's name to its function: two, as a rule.
const MOST_STEPS: u32 = 8;

impl Btf {
    /// Reads and indexes the running kernel's BTF.
    ///
    /// # Errors
    /// If the kernel has none, or it cannot be read or understood.
    pub fn of_the_kernel() -> Result<Self, BtfError> {
        let path = "/sys/kernel/btf/vmlinux";
        let data = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => BtfError::Missing { path: path.into() },
            _ => BtfError::Unreadable { path: path.into(), error },
        })?;
        Self::parse(data.into())
    }

    /// Indexes BTF data of this machine's byte order.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(data: Bytes) -> Result<Self, BtfError> {
        let (types, strings) = sections(data)?;
        let mut btf = Self {
            types,
            strings,
            starts: vec![0],
            structs: HashMap::new(),
            tracepoints: HashMap::new(),
            functions: HashMap::new(),
            enums: Vec::new(),
        };
        let mut at = 0;
        while at < btf.types.len() {
            let start = u32::try_from(at).map_err(|_| BtfError::Malformed("more than 4 GiB of types"))?;
            let found = btf.type_at(start)?;
            let id = u32::try_from(btf.starts.len()).map_err(|_| BtfError::Malformed("too many types"))?;
            btf.starts.push(start);
            match found.kind() {
                kind::STRUCT => {
                    let name = btf.string(found.name)?;
                    btf.structs.entry(name).or_insert(id);
                }
                kind::TYPEDEF => {
                    let name = btf.string(found.name)?;
                    if name.starts_with(b"btf_trace_") {
                        btf.tracepoints.entry(name).or_insert(id);
                    }
                }
                kind::FUNC => {
                    let name = btf.string(found.name)?;
                    // A kernel has some 60,000.
                    let is_it =
                        |hook: &Hook| matches!(hook.place(), Place::Function(wanted) if name == wanted);
                    if Hook::USAGE.iter().any(is_it) {
                        btf.functions.entry(name).or_insert(id);
                    }
                }
                kind::ENUM => btf.enums.push(id),
                _ => {}
            }
            at += FIXED + found.trailer()?;
        }
        Ok(btf)
    }

    /// The offset in bytes of a field, given as `struct.field.field`; fields of anonymous members count as the
    /// struct's own.
    ///
    /// # Errors
    /// If the kernel has no such struct or field, or it is not at a whole byte.
    pub fn offset(&self, path: &str) -> Result<u32, BtfError> {
        let no_such = || BtfError::NoSuch(path.to_owned());
        let mut parts = path.split('.');
        let name = parts.next().unwrap_or_default();
        let mut id = *self.structs.get(name.as_bytes()).ok_or_else(no_such)?;
        let mut bits = 0;
        for field in parts {
            let mut patience = MOST_MEMBERS;
            let found = self.member(id, field.as_bytes(), 4, &mut patience)?;
            let (offset, field_type) = found.ok_or_else(no_such)?;
            bits = sum(bits, offset)?;
            id = field_type;
        }
        if bits % 8 == 0 { Ok(bits / 8) } else { Err(no_such()) }
    }

    /// The size of a struct in bytes.
    ///
    /// # Errors
    /// If the kernel has none of that name.
    pub fn size(&self, name: &str) -> Result<u32, BtfError> {
        let no_such = || BtfError::NoSuch(format!("struct {name}"));
        let id = *self.structs.get(name.as_bytes()).ok_or_else(no_such)?;
        // The fixed part: name, info, size.
        Ok(self.slice(self.start(id)? as usize + 8, 4)?.get_u32_ne())
    }

    /// The value of an enumerator, wherever it is defined.
    ///
    /// # Errors
    /// If the kernel has none of that name.
    pub fn enumerator(&self, name: &str) -> Result<u32, BtfError> {
        for id in &self.enums {
            let start = self.start(*id)?;
            let members = self.type_at(start)?.members();
            for index in 0..members {
                let at = start as usize + FIXED + 8 * index as usize;
                let mut entry = self.slice(at, 8)?;
                if self.string(entry.get_u32_ne())? == name.as_bytes() {
                    return Ok(entry.get_u32_ne());
                }
            }
        }
        Err(BtfError::NoSuch(name.to_owned()))
    }

    /// Whether the kernel was built with a tracepoint, `sched_process_exit` for one.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoints.contains_key(format!("btf_trace_{name}").as_bytes())
    }

    /// Whether the kernel has what a program is attached to there.
    #[must_use]
    pub fn has(&self, place: Place) -> bool {
        match place {
            Place::Tracepoint(name) => self.has_tracepoint(name),
            Place::Function(name) => self.functions.contains_key(name.as_bytes()),
        }
    }

    /// The tracepoints and functions by number, for aya, which attaches by number. Of the kernel's whole BTF it would make
    /// some 20 MiB of structs; everything else is a placeholder here.
    ///
    /// # Errors
    /// aya does not understand it.
    pub fn places(&self) -> Result<aya::Btf, aya::BtfError> {
        aya::Btf::parse(&self.only_places(), aya::Endianness::default())
    }

    fn only_places(&self) -> Vec<u8> {
        let of_kind = |kind: u32| move |(name, id)| (name, id, kind);
        let tracepoints = self.tracepoints.iter().map(of_kind(kind::TYPEDEF));
        let places: Vec<_> = tracepoints.chain(self.functions.iter().map(of_kind(kind::FUNC))).collect();
        let last = places.iter().map(|(_, id, _)| **id).max().unwrap_or(0) as usize;
        let mut types = vec![[0, layout::PLACEHOLDER, 0]; last];
        let mut strings = vec![0];
        for (name, id, kind) in places {
            let at = u32::try_from(strings.len()).unwrap_or(0);
            // Types are numbered from 1. Nobody looks up what it stands for.
            types[*id as usize - 1] = [at, kind << 24, 0];
            strings.extend_from_slice(name);
            strings.push(0);
        }
        layout::blob(&types, &strings)
    }

    /// How many arguments a tracepoint has: its type is a pointer to a function of these, after one of the kernel's own.
    ///
    /// # Errors
    /// If the kernel has no such tracepoint.
    pub fn arguments(&self, tracepoint: &str) -> Result<u32, BtfError> {
        let no_such = || BtfError::NoSuch(tracepoint.to_owned());
        let name = format!("btf_trace_{tracepoint}");
        let mut id = *self.tracepoints.get(name.as_bytes()).ok_or_else(no_such)?;
        for _ in 0..MOST_STEPS {
            let start = self.start(id)?;
            let found = self.type_at(start)?;
            match found.kind() {
                kind::FUNC_PROTO => return Ok(found.members().saturating_sub(1)),
                // The third word of the fixed part: what it names or points to.
                kind::TYPEDEF | kind::POINTER => id = self.slice(start as usize + 8, 4)?.get_u32_ne(),
                _ => break,
            }
        }
        Err(no_such())
    }

    /// Offset in bits and type of a member; looked for in anonymous members too, `depth` levels down, and among
    /// `patience` members in all.
    fn member(
        &self,
        id: u32,
        name: &[u8],
        depth: u32,
        patience: &mut u32,
    ) -> Result<Option<(u32, u32)>, BtfError> {
        let start = self.start(id)?;
        let owner = self.type_at(start)?;
        if !matches!(owner.kind(), kind::STRUCT | kind::UNION) {
            return Ok(None);
        }
        for index in 0..owner.members() {
            *patience = patience.checked_sub(1).ok_or(BtfError::Malformed("a struct without an end"))?;
            let mut entry = self.slice(start as usize + FIXED + 12 * index as usize, 12)?;
            let member = self.string(entry.get_u32_ne())?;
            let member_type = entry.get_u32_ne();
            let raw = entry.get_u32_ne();
            let offset = if owner.bit_fields() { raw & 0xff_ffff } else { raw };
            if member == name {
                return Ok(Some((offset, member_type)));
            }
            if member.is_empty()
                && depth > 0
                && let Some((inner, found)) = self.member(member_type, name, depth - 1, patience)?
            {
                return Ok(Some((sum(offset, inner)?, found)));
            }
        }
        Ok(None)
    }

    fn start(&self, id: u32) -> Result<u32, BtfError> {
        self.starts
            .get(id as usize)
            .copied()
            .ok_or(BtfError::Malformed("a reference to a type that is not there"))
    }

    fn type_at(&self, start: u32) -> Result<Type, BtfError> {
        let mut fixed = self.slice(start as usize, FIXED)?;
        // The third word is a size or a type id.
        Ok(Type { name: fixed.get_u32_ne(), info: fixed.get_u32_ne() })
    }

    fn slice(&self, at: usize, len: usize) -> Result<&[u8], BtfError> {
        at.checked_add(len)
            .and_then(|end| self.types.get(at..end))
            .ok_or(BtfError::Malformed("a type is cut short"))
    }

    fn string(&self, offset: u32) -> Result<Bytes, BtfError> {
        let tail =
            self.strings.get(offset as usize..).ok_or(BtfError::Malformed("a name outside the strings"))?;
        let len =
            tail.iter().position(|byte| *byte == 0).ok_or(BtfError::Malformed("a name without an end"))?;
        let start = offset as usize;
        Ok(self.strings.slice(start..start + len))
    }
}

/// Offsets in bits, one within the other.
fn sum(one: u32, other: u32) -> Result<u32, BtfError> {
    one.checked_add(other).ok_or(BtfError::Malformed("an offset beyond any struct"))
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the sample is small")]
mod tests;
