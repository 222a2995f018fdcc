//! `cargo xtask real-test`: rules on the real programs that they are for, as Debian and PyPI have them. Fetches what is
//! missing; what is run and checked is in `tests/tests/real`, `tests/tests/rules/unmodified.rs`, and `vm/systemd/check`.

use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::architecture::Architecture;
use crate::command::{cargo, run};
use crate::debian::{self, is_root};
use crate::{chart, dist, tools, vm};

/// What runs containers, and what is in them.
const PODMAN: [&str; 3] = ["podman", "runc", "busybox-static"];

/// A program that can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// multiprocessing, joblib, pytest-xdist, Dask, Jupyter
    Python,
    /// Containers of podman with runc
    Podman,
    /// The agent as a container, with what the DaemonSet gives it, in podman beside containers of pods
    Agent,
    /// A job step of Slurm's
    Slurm,
    /// A scope of systemd's, in a virtual machine
    Systemd,
}

/// What is tried.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these
    #[arg(value_enum, value_name = "PROGRAM")]
    parts: Vec<Part>,
}

/// Tries all that the options choose.
pub(crate) fn run_real_test(options: &Options) -> Result<()> {
    if !is_root() {
        bail!("containers, batch systems and cgroups need root");
    }
    let all = Part::value_variants();
    let chosen = all.iter().filter(|part| options.parts.is_empty() || options.parts.contains(part));
    for part in chosen {
        part.run()?;
    }
    Ok(())
}

impl Part {
    fn run(self) -> Result<()> {
        match self {
            Self::Python => {
                tools::presets()?;
                test("Pools, Dask and Jupyter", &["--test", "rules", "unmodified"], &[], &[])
            }
            Self::Podman => {
                ensure("containers are run by it", &PODMAN)?;
                test("podman", &["--test", "real", "podman::"], &["--ignored"], &[])
            }
            Self::Agent => {
                ensure("containers are run by it", &PODMAN)?;
                agent()
            }
            Self::Slurm => {
                ensure("jobs are run by it", &["slurmctld", "slurmd", "slurm-client", "munge"])?;
                test("Slurm", &["--test", "real", "slurm::"], &["--ignored"], &[])
            }
            Self::Systemd => vm::run_machines(&vm::Options::systemd()?),
        }
    }
}

/// Debian's packages.
fn ensure(why: &str, packages: &[&str]) -> Result<()> {
    let missing = debian::missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(obstacle) = debian::obstacle() {
        bail!("{} cannot be installed: {obstacle}", missing.join(" "));
    }
    debian::install(why, &missing)
}

/// The image's binary, and the manifests that say how it is run.
fn agent() -> Result<()> {
    let work = tempfile::tempdir()?;
    let manifests = work.path().join("manifests.json");
    chart::manifests_as_json(&manifests)?;
    let binary = std::fs::canonicalize(dist::build(Architecture::X86_64)?)?;
    test(
        "The agent in a container",
        &["--test", "real", "container::"],
        &["--ignored"],
        &[("MONITOR_TEST_MANIFESTS", &manifests), ("MONITOR_TEST_STATIC_BINARY", &binary)],
    )
}

fn test(what: &str, which: &[&str], options: &[&str], files: &[(&str, &Path)]) -> Result<()> {
    // Cargo builds binaries for the tests of their own package only.
    run("The binary that these tests start", cargo().args(["build", "--package", "monitor"]))?;
    let mut test = cargo();
    test.args(["test", "--package", "monitor-tests"]).args(which).envs(files.iter().copied());
    run(what, test.args(["--", "--test-threads=1"]).args(options))
}
