//! Finds a rustup toolchain that can build the kernel side. Looks only; [`crate::setup`] installs.

pub(crate) mod record;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::output;

/// The name under which Debian's toolchain is linked.
pub(crate) const LINKED: &str = "monitor-ebpf";
/// The LLVM that bpf-linker is built with. It reads bitcode up to its own version, not newer.
pub(crate) const LLVM: u32 = 22;
/// The oldest compiler of this workspace, as `major.minor`.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// A toolchain that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Its name in rustup.
    pub(crate) name: String,
    /// It needs `RUSTC_BOOTSTRAP=1`.
    pub(crate) bootstrap: bool,
}

/// Whether there is a rustup at all; all else here needs it.
pub(crate) fn rustup_works() -> bool {
    output(Command::new("rustup").arg("--version")).is_ok()
}

/// The best toolchain there is: a nightly, then others, then the one that setup linked; and why each of the rest
/// does not fit.
pub(crate) fn find() -> Result<(Option<Fit>, Vec<String>)> {
    let list = output(Command::new("rustup").args(["toolchain", "list"]))?;
    let mut names = names_in(&list);
    names.sort_by_key(|name| (name == LINKED, !name.starts_with("nightly")));
    let mut unfit = Vec::new();
    for name in names {
        match examine(&name) {
            Ok(fit) => return Ok((Some(fit), unfit)),
            Err(why) => unfit.push(format!("{name}: {why:#}")),
        }
    }
    Ok((None, unfit))
}

/// The name of a nightly toolchain, if rustup has one. Whether it can build for BPF is another question.
pub(crate) fn nightly() -> Result<Option<String>> {
    let list = output(Command::new("rustup").args(["toolchain", "list"]))?;
    Ok(names_in(&list).into_iter().find(|name| name.starts_with("nightly")))
}

/// The first word of each line of `rustup toolchain list`; the rest of a line says active, default and the like.
fn names_in(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "no")
        .map(str::to_owned)
        .collect()
}

/// Whether the toolchain `name` can build for BPF, and if not, why.
pub(crate) fn examine(name: &str) -> Result<Fit> {
    let rustc = |arguments: &[&str]| {
        output(Command::new("rustup").args(["run", name, "rustc"]).args(arguments).env("RUST_BACKTRACE", "0"))
    };
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    if !has_rust_src(&sysroot) {
        bail!("has no rust-src");
    }
    judge(name, &rustc(&["-vV"])?)
}

/// Whether the sources of core lie below `sysroot`.
pub(crate) fn has_rust_src(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// Judges by what `rustc -vV` prints.
fn judge(name: &str, verbose_version: &str) -> Result<Fit> {
    let field = |key: &str| {
        let of_key = |line: &str| line.strip_prefix(key).map(|rest| rest.trim().to_owned());
        verbose_version.lines().find_map(of_key).with_context(|| format!("rustc -vV has no line {key:?}"))
    };
    let release = field("release:")?;
    if major_minor(&release)? < major_minor(OLDEST)? {
        bail!("is rustc {release}, older than {OLDEST}");
    }
    let llvm = field("LLVM version:")?;
    if major_minor(&llvm)?.0 > LLVM {
        bail!("has LLVM {llvm}, newer than the LLVM {LLVM} of bpf-linker");
    }
    Ok(Fit { name: name.to_owned(), bootstrap: !release.contains("nightly") })
}

fn major_minor(version: &str) -> Result<(u32, u32)> {
    let mut numbers = version.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        (_, _) => bail!("{version:?} is no version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_is_judged_by_release_and_llvm() {
        let version =
            |release: &str, llvm: &str| format!("rustc\nrelease: {release}\nLLVM version: {llvm}\n");
        let fit = judge("x", &version("1.97.0-nightly", "22.1.5")).unwrap();
        assert!(!fit.bootstrap);
        assert!(judge("x", &version("1.96.0", "21.1.0")).unwrap().bootstrap);
        let why = |text: String| judge("x", &text).unwrap_err().to_string();
        assert!(why(version("1.99.0-nightly", "23.1.0")).contains("newer than the LLVM 22"));
        assert!(why(version("1.85.0", "19.1.0")).contains("older than 1.95"));
        assert!(why("rustc 1.96.0".into()).contains("release:"));
    }

    #[test]
    fn the_list_of_rustup_is_read_without_its_remarks() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\nnightly-x86_64-unknown-linux-gnu\n";
        assert_eq!(names_in(list), ["stable-x86_64-unknown-linux-gnu", "nightly-x86_64-unknown-linux-gnu"]);
        assert!(names_in("no installed toolchains").is_empty());
    }
}
