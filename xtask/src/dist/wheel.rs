//! The Python client as a wheel.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::VERSION;
use crate::command::output;
use crate::python::{self, Tool};

/// Builds it by its own description, with the backend that this names.
const BUILD: Tool = Tool { program: "python", packages: &["build==1.6.1", "hatchling==1.33.0"] };
const CLIENT: &str = "clients/python";

/// Writes it into `to`.
pub(super) fn write(to: &Path, epoch: u64) -> Result<()> {
    let made = tempfile::tempdir()?;
    output(
        Command::new(python::program(&BUILD)?)
            .env("SOURCE_DATE_EPOCH", epoch.to_string())
            .args(["-B", "-m", "build", "--wheel", "--no-isolation", "--outdir"])
            .arg(made.path())
            .arg(CLIENT),
    )
    .context("the Python client's wheel")?;
    let name = format!("monitor_client-{VERSION}-py3-none-any.whl");
    if !made.path().join(&name).is_file() {
        bail!("{CLIENT}/pyproject.toml made no {name}: it has another version than Cargo.toml");
    }
    super::keep(&made.path().join(&name), &to.join(&name))
}
