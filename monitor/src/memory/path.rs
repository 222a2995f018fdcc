//! A cgroup's path inside its hierarchy. Text only: nothing here looks at a file.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// The path of a cgroup relative to the root of the memory hierarchy: absolute in form (`/`, `/box`,
/// `/box/inner`), without `.`, `..`, double or trailing slashes. Equal cgroups have equal paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPath(PathBuf);

/// What was given is not a cgroup path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CgroupPathError {
    /// Nothing was given.
    #[error("a cgroup path is not empty: the root is /")]
    Empty,
    /// It climbs.
    #[error("a cgroup path has no .. in it")]
    Climbs,
    /// The kernel allows neither of them in a name.
    #[error("a cgroup path has no newline and no NUL in it")]
    BadCharacter,
}

impl CgroupPath {
    /// The root of the hierarchy.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Normalizes `path`; a leading slash may be left out.
    ///
    /// # Errors
    /// Empty, or with `..`, a newline or a NUL in it.
    pub fn new(path: &OsStr) -> Result<Self, CgroupPathError> {
        if path.is_empty() {
            return Err(CgroupPathError::Empty);
        }
        if path.as_bytes().iter().any(|byte| matches!(byte, b'\n' | 0)) {
            return Err(CgroupPathError::BadCharacter);
        }
        let mut normal = PathBuf::from("/");
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => normal.push(name),
                Component::ParentDir => return Err(CgroupPathError::Climbs),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(Self(normal))
    }

    /// It as a path; absolute, see the type.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether it is the root of the hierarchy.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.parent().is_none()
    }

    /// Its directory under the directory of the root.
    #[must_use]
    pub fn below(&self, root: &Path) -> PathBuf {
        match self.0.strip_prefix("/") {
            Ok(relative) if !relative.as_os_str().is_empty() => root.join(relative),
            Ok(_) | Err(_) => root.to_path_buf(),
        }
    }

    /// Itself, its parent, and so on up to and including the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        self.0.ancestors().map(|path| Self(path.to_path_buf()))
    }

    /// Whether `other` is this cgroup or one below it: their memory overlaps.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl FromStr for CgroupPath {
    type Err = CgroupPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(OsStr::new(text))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/", "/", "/sys")]
    #[case("box", "/box", "/sys/box")]
    #[case("//a/./b//", "/a/b", "/sys/a/b")]
    fn paths_are_normalised(#[case] given: &str, #[case] normal: &str, #[case] dir: &str) {
        let path: CgroupPath = given.parse().unwrap();
        assert_eq!(path.to_string(), normal);
        assert_eq!(path.below(Path::new("/sys")), Path::new(dir));
    }

    #[rstest]
    #[case("", CgroupPathError::Empty)]
    #[case("/a/../b", CgroupPathError::Climbs)]
    #[case("/a\nb", CgroupPathError::BadCharacter)]
    #[case("/a\0b", CgroupPathError::BadCharacter)]
    fn others_are_refused(#[case] given: &str, #[case] error: CgroupPathError) {
        assert_eq!(given.parse::<CgroupPath>(), Err(error));
    }

    #[test]
    fn ancestors_run_from_itself_to_the_root() {
        let path: CgroupPath = "/a/b".parse().unwrap();
        let all: Vec<String> = path.ancestors().map(|path| path.to_string()).collect();
        assert_eq!(all, ["/a/b", "/a", "/"]);
        assert!(CgroupPath::root().is_root() && !path.is_root());
    }

    #[test]
    fn containment_goes_by_whole_names() {
        let [a, ab, abc]: [CgroupPath; 3] = ["/a", "/ab", "/a/b"].map(|text| text.parse().unwrap());
        assert!(a.contains(&abc) && a.contains(&a) && !a.contains(&ab) && !abc.contains(&a));
    }
}
