//! `cargo xtask ray-test`: a real Ray from PyPI, in a virtual environment in the cache folder, under memory pressure with
//! the agent beside it. What is run and checked is `tests/src/bin/ray-test`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, run};
use crate::program::target_dir;
use crate::python::{self, Tool};

/// The version that the documentation speaks of.
const NEWEST: &str = "2.60.0";

/// The versions that it is tried with.
const VERSIONS: [(&str, Tool); 2] = [
    (NEWEST, Tool { program: "ray", packages: &["ray==2.60.0"] }),
    // Its command line does not start with a click of 2026.
    ("2.40.0", Tool { program: "ray", packages: &["ray==2.40.0", "click==8.1.8", "setuptools==75.8.0"] }),
];

/// What Ray's own tests need.
const OWN_TESTS: Tool = Tool {
    program: "ray",
    packages: &["ray[default]==2.60.0", "pytest==9.2.0", "pytest-asyncio==1.5.0", "numpy==2.4.6"],
};

/// Options of the program, passed on.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The version of Ray
    #[arg(long, default_value = NEWEST, value_parser = VERSIONS.map(|(version, _)| version), value_name = "VERSION")]
    ray: String,
    /// --quick, --filter, --page DIR, --tests FILE, --plain, --verbose
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// Runs all that the options choose.
pub(crate) fn run_ray_test(options: &Options) -> Result<()> {
    let (_, ray) = VERSIONS.iter().find(|(version, _)| *version == options.ray).context("no such version")?;
    let own_tests = options.options.iter().any(|option| option.to_string_lossy().starts_with("--tests"));
    if own_tests && options.ray != NEWEST {
        bail!("--tests runs with Ray {NEWEST} only");
    }
    let ray = if own_tests { &OWN_TESTS } else { ray };
    let python = python::program(ray)?.with_file_name("python");
    run(
        "Building the agent and the program that tries it with Ray",
        cargo().args(["build", "--package", "monitor", "--package", "monitor-tests", "--bins"]),
    )?;
    let mut program = Command::new(target_dir().join("debug").join("ray-test"));
    run("A real Ray under memory pressure", program.arg("--python").arg(python).args(&options.options))
}
