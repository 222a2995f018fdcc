//! `cargo xtask recording`: runs the demonstration in a terminal of its own and makes a moving picture of what was seen,
//! docs/images/demo.svg, which the README shows. Root, because the demonstration needs it.

mod picture;
mod screen;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{output, step};
use crate::{debian, program};

/// Where it lands.
const TO: &str = "docs/images/demo.svg";
/// What a reader of the README loads at most.
const MOST_BYTES: usize = 150 << 10;
/// Of the terminal, wide enough for the demonstration's longest lines.
const COLUMNS: usize = 112;

/// Makes it anew.
pub(crate) fn run_recording() -> Result<()> {
    if !debian::is_root() {
        bail!("the demonstration makes memory cgroups: run it as root");
    }
    let demo = program::build("the demonstration", "demo")?;
    let work = tempfile::tempdir()?;
    let (typed, times) = (work.path().join("typed"), work.path().join("times"));
    step("Recording the demonstration");
    // Of util-linux: a pseudo-terminal, and each piece of output with the time since the one before.
    output(
        Command::new("script")
            .args(["--quiet", "--return", "--flush", "--logging-format", "classic", "--command"])
            .arg(format!("stty cols {COLUMNS} rows 30; exec '{}'", demo.display()))
            .arg("--log-out")
            .arg(&typed)
            .arg("--log-timing")
            .arg(&times),
    )
    .context("the demonstration")?;
    let seen = screen::read(&read(&typed)?, &read(&times)?)?;
    let text = picture::draw(&seen, COLUMNS);
    if text.len() > MOST_BYTES {
        bail!("the picture has {} bytes, more than {MOST_BYTES}", text.len());
    }
    fs::write(TO, &text).context(TO)?;
    step(&format!("Wrote {TO} ({} bytes, {} lines)", text.len(), seen.lines.len()));
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
