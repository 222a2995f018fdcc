//! Where QEMU is: the system's, or one of Debian's that is fetched and unpacked into the cache, because installing it
//! would change the system (it conflicts with a newer qemu-utils, for one). Installs nothing, boots nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::command::{in_path, output, step};
use crate::debian::{self, apt};
use apt::library_folders;

/// Where the packages put what QEMU loads into machines.
const DATA: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// A QEMU that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Emulator {
    program: PathBuf,
    architecture: Architecture,
    /// The folder that the packages were unpacked into; `None` for the system's own.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// The system's QEMU, else that of the cache, if one of them works.
    pub(super) fn find(cache: &Path, architecture: Architecture) -> Option<Self> {
        let own = in_path(program(architecture)).into_iter().map(|program| Self {
            program,
            architecture,
            unpacked: None,
        });
        let fetched = Self::unpacked(folder(cache, architecture), architecture);
        own.chain([fetched]).find(|emulator| emulator.works().is_ok())
    }

    /// As [`Emulator::find`]; fetches QEMU if there is none.
    pub(super) fn get(cache: &Path, architecture: Architecture) -> Result<Self> {
        if let Some(found) = Self::find(cache, architecture) {
            return Ok(found);
        }
        if !debian::can_fetch() {
            let program = program(architecture);
            bail!("QEMU is needed ({program}), and it can only be fetched on Debian: install it by hand");
        }
        let package = package(architecture);
        step(&format!("Fetching {package} into {}: it runs the other kernels", cache.display()));
        fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
        let apt = apt::Apt::open(&cache.join("apt-qemu"), &apt::Suites::of_release(&debian::release()?))?;
        let made = tempfile::tempdir_in(cache)?;
        apt.fetch_with_missing(&[package], made.path())?;
        let unpacked = folder(cache, architecture);
        // An older one that needs libraries that the system no longer has.
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked).with_context(|| unpacked.display().to_string())?;
        }
        // Whole or not there.
        fs::rename(made.keep(), &unpacked).context("keeping QEMU")?;
        let fetched = Self::unpacked(unpacked, architecture);
        fetched.works().context("the QEMU that was fetched does not start")?;
        Ok(fetched)
    }

    fn unpacked(folder: PathBuf, architecture: Architecture) -> Self {
        let program = folder.join("usr/bin").join(program(architecture));
        Self { program, architecture, unpacked: Some(folder) }
    }

    /// What it emulates.
    pub(super) fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// QEMU, to be completed with the machine. An unpacked one finds its libraries, modules and firmware.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(unpacked) = &self.unpacked {
            let libraries = library_folders(unpacked);
            if let Some(modules) = libraries.iter().find(|folder| folder.ends_with("qemu")) {
                command.env("QEMU_MODULE_DIR", modules);
            }
            let own = env::var_os("LD_LIBRARY_PATH").filter(|paths| !paths.is_empty());
            let paths = libraries.into_iter().map(OsString::from).chain(own).collect::<Vec<_>>();
            command.env("LD_LIBRARY_PATH", paths.join(OsString::from(":").as_os_str()));
            for folder in DATA {
                command.arg("-L").arg(unpacked.join(folder));
            }
        }
        command
    }

    fn works(&self) -> Result<()> {
        output(self.command().arg("--version")).map(drop)
    }
}

/// Of QEMU's many, the one for a whole machine.
pub(super) fn program(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "qemu-system-x86_64",
        Architecture::Aarch64 => "qemu-system-aarch64",
    }
}

/// Debian's package of it.
fn package(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "qemu-system-x86",
        Architecture::Aarch64 => "qemu-system-arm",
    }
}

fn folder(cache: &Path, architecture: Architecture) -> PathBuf {
    match architecture {
        Architecture::X86_64 => cache.join("qemu"),
        Architecture::Aarch64 => cache.join("qemu-aarch64"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_unpacked_one_is_started_with_its_own_libraries_and_firmware() {
        let root = tempfile::tempdir().unwrap();
        for (folder, file) in
            [("lib/a", "libx.so.1.2"), ("usr/lib/a/qemu", "accel.so"), ("usr/lib/b", "x.so.conf")]
        {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join(file), "").unwrap();
        }
        let at = |place: &str| root.path().join(place);
        assert_eq!(library_folders(root.path()), BTreeSet::from([at("lib/a"), at("usr/lib/a/qemu")]));
        let emulator = Emulator::unpacked(root.path().to_owned(), Architecture::X86_64);
        let command = emulator.command();
        let variable =
            |name: &str| command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
        assert_eq!(variable("QEMU_MODULE_DIR"), Some(at("usr/lib/a/qemu").as_os_str()));
        assert!(
            variable("LD_LIBRARY_PATH").unwrap().to_str().unwrap().starts_with(at("lib/a").to_str().unwrap())
        );
        assert!(command.get_args().any(|argument| argument == at("usr/share/seabios")));
        let own =
            Emulator { program: "/usr/bin/q".into(), architecture: Architecture::X86_64, unpacked: None };
        assert_eq!((own.command().get_envs().count(), own.command().get_args().count()), (0, 0));
    }
}
