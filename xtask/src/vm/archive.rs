//! Writes a cpio archive of the format "newc", which is what the kernel unpacks as its initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Knows nothing of what is in it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Types and permissions as in `st_mode`.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const SYMLINK: u32 = 0o120_777;

/// An archive being written. Owner of everything is root.
pub(super) struct Archive<W> {
    to: W,
    /// Inode numbers: entries with the same one would be links to each other.
    entries: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, entries: 0, folders: BTreeSet::new() }
    }

    /// A folder and those above it.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above)?;
        }
        self.folders.insert(path.to_owned());
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// A file that may be executed, and the folders above it.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.above(path)?;
        self.entry(path, PROGRAM, (0, 0), content)
    }

    /// A symbolic link to `target`, and the folders above it.
    pub(super) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.above(path)?;
        self.entry(path, SYMLINK, (0, 0), target.as_bytes())
    }

    /// A character device by its major and minor number.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> io::Result<()> {
        self.above(path)?;
        self.entry(path, CHARACTER_DEVICE, number, &[])
    }

    /// All that is in a folder of this machine, with its permissions; but for device nodes and sockets, and for what
    /// `left_out` names, by paths relative to the folder.
    pub(super) fn tree(&mut self, folder: &Path, left_out: &dyn Fn(&str) -> bool) -> io::Result<()> {
        self.below(folder, "", left_out)
    }

    fn below(&mut self, root: &Path, folder: &str, left_out: &dyn Fn(&str) -> bool) -> io::Result<()> {
        let mut names: Vec<_> = fs::read_dir(root.join(folder))?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let name = name.to_str().ok_or_else(|| io::Error::other(format!("{name:?} is not UTF-8")))?;
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if left_out(&path) {
                continue;
            }
            let here = root.join(&path);
            let meta = here.symlink_metadata()?;
            if meta.is_dir() {
                if self.folders.insert(path.clone()) {
                    self.entry(&path, meta.mode(), (0, 0), &[])?;
                }
                self.below(root, &path, left_out)?;
            } else if meta.is_symlink() {
                let target = fs::read_link(&here)?;
                self.entry(&path, SYMLINK, (0, 0), target.as_os_str().as_encoded_bytes())?;
            } else if meta.is_file() {
                self.entry(&path, meta.mode(), (0, 0), &fs::read(&here)?)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.to.flush()
    }

    fn above(&mut self, path: &str) -> io::Result<()> {
        let above = Path::new(path).parent().map(|above| above.to_string_lossy().into_owned());
        above.map_or(Ok(()), |above| self.folder(&above))
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path}: over 4 GiB")))?;
        let name = path.trim_start_matches('/');
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        self.entries += 1;
        write!(self.to, "070701")?;
        // inode, mode, uid, gid, links, time, size, device of the file (2), device it is (2), size of the name, checksum
        let (major, minor) = device;
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(&[0])?;
        // Header and name, and the content, each end on a multiple of 4.
        self.pad(110 + name.len() + 1)?;
        self.to.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0u8; 3];
        self.to.write_all(zeros.get(..written.next_multiple_of(4) - written).unwrap_or(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_its_permissions_and_links_and_lacks_what_is_left_out() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/left")).unwrap();
        fs::write(root.path().join("a/left/x"), "").unwrap();
        fs::write(root.path().join("a/file"), "12").unwrap();
        fs::set_permissions(root.path().join("a/file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", root.path().join("a/link")).unwrap();
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.tree(root.path(), &|path| path == "a/left").unwrap();
        archive.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let mode =
            |index: usize| text.match_indices("070701").nth(index).map(|(at, _)| &text[at + 14..at + 22]);
        assert_eq!(mode(1), Some("000081a0"), "{text:?}");
        assert_eq!(mode(2), Some("0000a1ff"));
        assert!(text.contains("a/link") && !text.contains("left"), "{text:?}");
    }

    #[test]
    fn entries_are_aligned_and_folders_come_first_and_once() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("/a/b/c", b"12345").unwrap();
        archive.file("/a/b/d", b"").unwrap();
        archive.symlink("/bin", "usr/bin").unwrap();
        archive.device("/dev/null", (1, 3)).unwrap();
        archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            assert!(rest.starts_with(b"070701"), "no header where one should be: {rest:?}");
            let field = |index: usize| {
                let start = 6 + index * 8;
                usize::from_str_radix(str::from_utf8(&rest[start..start + 8]).unwrap(), 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            names.push(String::from_utf8(rest[110..110 + name_size - 1].to_vec()).unwrap());
            rest = &rest[((110 + name_size).next_multiple_of(4) + size).next_multiple_of(4)..];
        }
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d", "bin", "dev", "dev/null", "TRAILER!!!"]);
    }
}
