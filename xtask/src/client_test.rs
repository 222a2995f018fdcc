//! `cargo xtask client-test`: checks and tests of the Python client, in a virtual environment in the cache folder. What
//! they check is in `clients/python/pyproject.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{cargo, output, run};
use crate::debian::is_root;
use crate::toolchain::record::{CACHE_VARIABLES, cache_dir};

/// Where the client is, and what else is Python's here. Relative to the former.
const CLIENT: &str = "clients/python";
const EXAMPLES: &str = "../../examples/python";

/// What the checks need: ruff of one version, since each finds and formats something else; of the others the newest
/// that this Python has.
const TOOLS: [&str; 4] = ["ruff==0.17.6", "mypy", "pytest", "pebble"];

/// In the environment when it is whole: what it was made with.
const STAMP: &str = "monitor-tools";

/// The bin folder of the environment, or why there is none.
pub(crate) enum Environment {
    Ready(PathBuf),
    Missing(String),
}

/// Checks and tests the client. Fails where that is not possible.
pub(crate) fn run_client_test() -> Result<()> {
    match environment()? {
        Environment::Ready(bin) => check(&bin, |command| command),
        Environment::Missing(why) => anyhow::bail!("the Python client cannot be tested: {why}"),
    }
}

/// Makes the environment if it is not there, or is not whole.
pub(crate) fn environment() -> Result<Environment> {
    let cache =
        cache_dir().with_context(|| format!("no cache folder: set one of {}", CACHE_VARIABLES.join(", ")))?;
    let folder = cache.join("python-client");
    let (bin, stamp, tools) = (folder.join("bin"), folder.join(STAMP), TOOLS.join(" "));
    let runs = || output(Command::new(bin.join("python")).args(["-c", "import pebble, pytest"])).is_ok();
    if fs::read_to_string(&stamp).is_ok_and(|made_with| made_with == tools) && runs() {
        return Ok(Environment::Ready(bin));
    }
    let missing = |what: &str, error: anyhow::Error| Ok(Environment::Missing(format!("{what}: {error:#}")));
    if let Err(error) = output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)) {
        return missing("python3 makes no virtual environment (Debian: python3-venv)", error);
    }
    let install = ["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"];
    if let Err(error) = output(Command::new(bin.join("pip")).args(install).args(TOOLS)) {
        return missing("PyPI did not give what the tests need", error);
    }
    fs::write(&stamp, tools).with_context(|| stamp.display().to_string())?;
    Ok(Environment::Ready(bin))
}

/// The checks, those that fail soonest first. `watch` gets the command that may skip tests.
pub(crate) fn check(bin: &Path, watch: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
    let tool = |name: &str| {
        let mut command = Command::new(bin.join(name));
        command.current_dir(CLIENT);
        command
    };
    let settings = ["--config", "pyproject.toml", ".", EXAMPLES];
    run("Python client: lints", tool("ruff").arg("check").args(settings))?;
    run("Python client: format", tool("ruff").args(["format", "--check"]).args(settings))?;
    run("Python client: types", tool("mypy").arg("--strict"))?;
    if is_root() {
        run(
            "The agent that its tests start",
            cargo().args(["build", "--package", "monitor", "--bin", "monitor"]),
        )?;
    }
    run("Python client: tests", watch(tool("pytest").arg("-q")))
}
