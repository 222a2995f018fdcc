//! `cargo xtask real-test`: rules on the real programs that they are for, as Debian and PyPI have them. Fetches what is
//! missing; what is run and checked is in `tests/tests/real`, `tests/tests/rules/unmodified.rs`, and `vm/systemd/check`.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command::{cargo, run};
use crate::debian::{self, is_root};
use crate::{tools, vm};

/// A program that can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// multiprocessing, joblib, pytest-xdist, Dask, Jupyter
    Python,
    /// Containers of podman with runc
    Podman,
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
                test("Pools, Dask and Jupyter", &["--test", "rules", "unmodified"], &[])
            }
            Self::Podman => {
                ensure("containers are run by it", &["podman", "runc", "busybox-static"])?;
                test("podman", &["--test", "real", "podman"], &["--ignored"])
            }
            Self::Slurm => {
                ensure("jobs are run by it", &["slurmctld", "slurmd", "slurm-client", "munge"])?;
                test("Slurm", &["--test", "real", "slurm"], &["--ignored"])
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

fn test(what: &str, which: &[&str], options: &[&str]) -> Result<()> {
    // Cargo builds binaries for the tests of their own package only.
    run("The binary that these tests start", cargo().args(["build", "--package", "monitor"]))?;
    let mut test = cargo();
    test.args(["test", "--package", "monitor-tests"]).args(which);
    run(what, test.args(["--", "--test-threads=1"]).args(options))
}
