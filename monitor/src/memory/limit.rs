//! Whether one cgroup has a limit, looked at again and again: one open file, no reading of what is used.

use super::file::{Buffer, KernelFile};
use super::hierarchy::{Hierarchy, Version};
use super::path::CgroupPath;
use super::{Limit, ReadError, parse};

/// The limit file of a cgroup, held open.
#[derive(Debug)]
pub struct LimitReader {
    file: KernelFile,
}

/// Where the text of a limit lands; one serves any number of readers in turn.
#[derive(Debug)]
pub struct LimitBuffer(Buffer);

impl Default for LimitBuffer {
    fn default() -> Self {
        Self(Buffer::new())
    }
}

impl LimitReader {
    /// # Errors
    /// There is no such cgroup. A file that cannot be opened is the look's error.
    pub fn open(hierarchy: &Hierarchy, cgroup: &CgroupPath) -> Result<Self, ReadError> {
        let name = match hierarchy.version() {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        Ok(Self { file: KernelFile::new(&hierarchy.open(cgroup)?, name) })
    }

    /// The limit now.
    ///
    /// # Errors
    /// It is unknown. [`ReadError::Gone`] once the cgroup was removed, for good: one that was made again under its
    /// name takes a new reader.
    pub fn look(&mut self, buffer: &mut LimitBuffer) -> Result<Limit, ReadError> {
        self.file.read_as(&mut buffer.0, parse::limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{MIB, Tree, cgroup};
    use super::*;
    use crate::units::Bytes;

    #[test]
    fn a_limit_that_is_set_and_lifted_is_seen_by_the_same_reader() {
        for (tree, file, none) in [
            ("v1", "cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n"),
            ("v2", "cgroup/box/memory.max", "max\n"),
        ] {
            let tree = Tree::of(tree);
            let mut reader = LimitReader::open(&tree.hierarchy().unwrap(), &cgroup("/box")).unwrap();
            let mut buffer = LimitBuffer::default();
            for (text, limit) in [
                (none, Limit::Unlimited),
                ("104857600\n", Limit::At(Bytes(100 * MIB))),
                (none, Limit::Unlimited),
            ] {
                tree.write(file, text);
                assert_eq!(reader.look(&mut buffer), Ok(limit), "{text}");
            }
            tree.write(file, "many\n");
            assert!(matches!(reader.look(&mut buffer), Err(ReadError::Malformed { .. })));
        }
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_said() {
        let tree = Tree::of("v2");
        let opened = LimitReader::open(&tree.hierarchy().unwrap(), &cgroup("/nowhere"));
        assert!(opened.unwrap_err().is_missing_file());
    }
}
