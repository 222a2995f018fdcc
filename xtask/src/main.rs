//! `cargo xtask`: what plain cargo does not do. Parses and calls; one file per subcommand.

mod architecture;
mod bench;
mod build;
mod chart;
mod client_test;
mod command;
mod cross;
mod debian;
mod demo;
mod dist;
mod docs;
mod fuzz;
mod install;
mod program;
mod python;
mod ray_test;
mod real_test;
mod recording;
mod release;
mod setup;
mod shell;
mod simulate;
mod soak;
mod stress;
mod test;
mod toolchain;
mod tools;
mod vm;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Set up, build and test monitor.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install the toolchain for the kernel programs (other commands do this if it is missing)
    Setup,
    /// Build the release binary
    Build,
    /// Measure the time from exceeding a threshold to the victim's death, and what the agent costs; needs root
    Bench(bench::Options),
    /// Check the Helm chart and the manifests that it renders
    Chart(chart::Options),
    /// Check and test the Python client; the tests with real memory need root
    ClientTest,
    /// Show with real processes how the agent keeps a cgroup from running out of memory; needs root
    Demo(demo::Options),
    /// Build what users install, in target/dist: static binaries, packages, tarballs, checksums
    Dist(dist::Options),
    /// Build the documentation as a book, in target/book, and check its links
    Docs,
    /// Fuzz every parser for a while, with libFuzzer
    Fuzz(fuzz::Options),
    /// Install, upgrade and remove the packages of `dist` in throw-away systems; needs root
    Install,
    /// Test Ray's promises under memory pressure, with a real Ray from PyPI; needs root
    RayTest(ray_test::Options),
    /// Test rules with real programs: Python's pools, Dask, Jupyter, podman, Slurm, systemd; needs root
    RealTest(real_test::Options),
    /// Record the demonstration as an animation, docs/images/demo.svg; needs root
    Recording,
    /// Check whether everything that a release needs is there
    Release(release::Options),
    /// Simulate a year of a big node in minutes, and check that nothing grows
    Simulate(simulate::Options),
    /// Let workers come and go, leak and crash for a while, and check that the numbers agree; needs root
    Soak(soak::Options),
    /// Let stress-ng take too much memory in every way that it knows, and check what is killed; needs root
    Stress(stress::Options),
    /// Check and test everything; the tests on the real kernel need root
    Test,
    /// Fetch what some tests need: Prometheus, its parser, a browser, and the Python programs for the presets
    Tools,
    /// Run the tests on the real kernel on other kernels, in virtual machines
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = at_top_level().and_then(|()| match cli.command {
        Task::Setup => setup::run_setup().map(drop),
        Task::Build => build::run_build(),
        Task::Bench(options) => bench::run_bench(&options),
        Task::Chart(options) => chart::run_chart(&options),
        Task::ClientTest => client_test::run_client_test(),
        Task::Demo(options) => demo::run_demo(&options),
        Task::Dist(options) => dist::run_dist(&options),
        Task::Docs => docs::run_docs(),
        Task::Fuzz(options) => fuzz::run_fuzz(&options),
        Task::Install => install::run_install(),
        Task::RayTest(options) => ray_test::run_ray_test(&options),
        Task::RealTest(options) => real_test::run_real_test(&options),
        Task::Recording => recording::run_recording(),
        Task::Release(options) => release::run_release(&options),
        Task::Simulate(options) => simulate::run_simulation(&options),
        Task::Soak(options) => soak::run_soak(&options),
        Task::Stress(options) => stress::run_stress(&options),
        Task::Test => test::run_tests(),
        Task::Tools => tools::run_tools(),
        Task::Vm(options) => vm::run_machines(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Wherever in the workspace it was called: paths are relative to the top level.
fn at_top_level() -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    env::set_current_dir(&top).with_context(|| top.display().to_string())
}
