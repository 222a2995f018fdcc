//! Puts the programs and what they need into an initramfs. Each file keeps the path that it has on this machine, so
//! that paths compiled into the tests (`CARGO_BIN_EXE_*`) and those relative to a program hold in the VM too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::programs::Programs;
use crate::command::{in_path, output};

/// What tests may use of a system; there is no other.
const TOOLS: [&str; 12] =
    ["cat", "dd", "env", "false", "head", "perl", "setsid", "sh", "sleep", "tail", "true", "unshare"];
/// What exec answers for a program of another architecture.
const ENOEXEC: i32 = 8;
/// Mount points and others that are expected to be there.
const FOLDERS: [&str; 8] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/var/tmp", "/vm"];

/// In place of the tools where this machine's own do not run: a link for each.
const BUSYBOX: &str = "/usr/bin/busybox";

/// Writes the archive to `to`. `busybox` brings the tools for another architecture than this machine's. Only tests with
/// one of `filters` in their name will run; none: all.
pub(super) fn build(
    programs: &Programs,
    filters: &[String],
    busybox: Option<&Path>,
    to: &Path,
) -> Result<()> {
    let stripped = |program: &Path| match busybox {
        // Built so: this machine's strip does not know them.
        Some(_) => read(program),
        None => stripped(program),
    };
    let file = File::create(to).with_context(|| to.display().to_string())?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    // The kernel opens the first for init, Rust's runtime the second.
    archive.device("/dev/console", (5, 1))?;
    archive.device("/dev/null", (1, 3))?;
    archive.file("/init", &stripped(&programs.init)?)?;
    let mut libraries = libraries(&programs.init)?;
    let mut tests = Vec::new();
    for test in &programs.tests {
        if has_wanted(test, filters)? {
            tests.push(test);
        }
    }
    if tests.is_empty() {
        bail!("no test's name contains one of {}", filters.join(", "));
    }
    for program in tests.iter().copied().chain(&programs.others) {
        archive.file(text(program)?, &stripped(program)?)?;
        libraries.append(&mut self::libraries(program)?);
    }
    archive.symlink("/bin", "usr/bin")?;
    if let Some(busybox) = busybox {
        archive.file(BUSYBOX, &read(busybox)?)?;
        for tool in TOOLS {
            archive.symlink(&format!("/usr/bin/{tool}"), BUSYBOX)?;
        }
    }
    for tool in TOOLS.into_iter().filter(|_| busybox.is_none()) {
        let Some(path) = in_path(tool).into_iter().next() else { continue };
        archive.file(&format!("/usr/bin/{tool}"), &read(&path)?)?;
        libraries.append(&mut self::libraries(&path)?);
    }
    for library in &libraries {
        archive.file(text(library)?, &read(library)?)?;
    }
    let list = tests.iter().map(|path| Ok(format!("{}\n", text(path)?))).collect::<Result<String>>()?;
    archive.file("/vm/tests", list.as_bytes())?;
    archive.file("/vm/filter", filters.join("\n").as_bytes())?;
    archive.finish().context("writing the initramfs")
}

/// Whether the name of one of a program's tests contains a filter. All programs together are larger than what the
/// kernel unpacks into half of its memory.
fn has_wanted(program: &Path, filters: &[String]) -> Result<bool> {
    if filters.iter().all(String::is_empty) {
        return Ok(true);
    }
    match Command::new(program).args(["--list", "--format", "terse"]).output() {
        Ok(list) => Ok(wanted(program, &String::from_utf8_lossy(&list.stdout), filters)),
        // Of another architecture: by the program's name alone.
        Err(error) if error.raw_os_error() == Some(ENOEXEC) => Ok(may_have(program, filters)),
        Err(error) => Err(error).with_context(|| program.display().to_string()),
    }
}

/// Whether a filter names this program, or none.
fn may_have(program: &Path, filters: &[String]) -> bool {
    let may = |filter: &String| filter.split_once("::").is_none_or(|(of, _)| of == name(program));
    filters.iter().any(may)
}

/// Cargo puts a hash behind it.
fn name(program: &Path) -> String {
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    file.rsplit_once('-').map_or(&*file, |(name, _)| name).to_owned()
}

/// Tests are named `program::test`, as vm-init names them.
fn wanted(program: &Path, list: &str, filters: &[String]) -> bool {
    let name = name(program);
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    tests
        .map(|test| format!("{name}::{test}"))
        .any(|test| filters.iter().any(|filter| !filter.is_empty() && test.contains(filter)))
}

/// The shared libraries of a program and its interpreter, by the paths at which it looks for them.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    match output(Command::new("ldd").env("LC_ALL", "C").arg(program)) {
        Ok(text) => Ok(libraries_in(&text)),
        // ldd's only word for a static program is an error.
        Err(error) if error.to_string().contains("not a dynamic executable") => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// Lines of ldd: `libc.so.6 => /lib/libc.so.6 (0x..)`, `/lib64/ld-linux-x86-64.so.2 (0x..)`.
fn libraries_in(ldd: &str) -> BTreeSet<PathBuf> {
    ldd.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Without debug information, which is nine tenths of a test program and would have to fit into the VM's memory.
pub(super) fn stripped(program: &Path) -> Result<Vec<u8>> {
    let small = tempfile::NamedTempFile::new()?;
    output(Command::new("strip").arg("--strip-debug").arg("-o").arg(small.path()).arg(program))?;
    read(small.path())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_with_a_wanted_test_are_taken() {
        let wanted = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            let list = "the_brake_holds: test\nusage::grows: test\nslow: benchmark\n";
            super::wanted(Path::new("/t/deps/kernels-0123abcd"), list, &filters)
        };
        assert!(wanted(&["kernels::"]) && wanted(&["brake::", "kernels::the"]) && wanted(&["usage"]));
        let path = Path::new("/t/deps/kernels-0123abcd");
        assert!(may_have(path, &["kernels::x".to_owned()]) && may_have(path, &["x".to_owned()]));
        assert!(!may_have(path, &["kernel::x".to_owned()]));
        assert!(!wanted(&["kernel::"]) && !wanted(&["brake::", "programs::"]) && !wanted(&["slow", ""]));
    }

    #[test]
    fn libraries_and_the_interpreter_are_found_in_what_ldd_prints() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries_in(ldd), BTreeSet::from(expected));
        assert!(libraries_in("\tstatically linked\n").is_empty());
    }
}
