//! A hook's program, whatever it is attached to.

use aya::programs::fentry::FEntryLinkId;
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::programs::{BtfTracePoint, FEntry, ProgramError, ProgramFd};
use aya::{Btf, Ebpf};

use crate::kernel::hook::{Hook, Place};

/// See the module.
pub(super) enum Program<'a> {
    Tracepoint(&'a mut BtfTracePoint),
    Function(&'a mut FEntry),
}

/// That it is attached.
pub(super) enum Link {
    Tracepoint(BtfTracePointLinkId),
    Function(FEntryLinkId),
}

impl<'a> Program<'a> {
    /// That of a hook.
    pub(super) fn of(ebpf: &'a mut Ebpf, hook: Hook) -> Result<Self, ProgramError> {
        let program = ebpf.program_mut(hook.program()).ok_or(ProgramError::NotLoaded)?;
        match hook.place() {
            Place::Tracepoint(_) => program.try_into().map(Self::Tracepoint),
            Place::Function(_) => program.try_into().map(Self::Function),
        }
    }

    /// Its descriptor, if it is loaded.
    pub(super) fn fd(&self) -> Result<&ProgramFd, ProgramError> {
        match self {
            Self::Tracepoint(program) => program.fd(),
            Self::Function(program) => program.fd(),
        }
    }

    /// Loads it for the tracepoint or the function of this name.
    pub(super) fn load(&mut self, name: &str, types: &Btf) -> Result<(), ProgramError> {
        match self {
            Self::Tracepoint(program) => program.load(name, types),
            Self::Function(program) => program.load(name, types),
        }
    }

    pub(super) fn attach(&mut self) -> Result<Link, ProgramError> {
        match self {
            Self::Tracepoint(program) => program.attach().map(Link::Tracepoint),
            Self::Function(program) => program.attach().map(Link::Function),
        }
    }

    pub(super) fn detach(&mut self, link: Link) -> Result<(), ProgramError> {
        match (self, link) {
            (Self::Tracepoint(program), Link::Tracepoint(link)) => program.detach(link),
            (Self::Function(program), Link::Function(link)) => program.detach(link),
            (Self::Tracepoint(_), Link::Function(_)) | (Self::Function(_), Link::Tracepoint(_)) => {
                Err(ProgramError::NotAttached)
            }
        }
    }
}
