//! `cargo xtask tools`: what some tests on the real kernel are done with. Prometheus and Chromium's packages are Debian's,
//! unpacked into the cache folder; Playwright comes from npm; Prometheus' parser and the programs that the presets are
//! tried on come from PyPI. Nothing of the system changes, but that Chromium, which needs its libraries, is installed
//! where that is allowed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::client_test::{self, Environment};
use crate::command::{in_path, output, run, step};
use crate::debian::apt::{Apt, Suites};
use crate::debian::{self, release};
use crate::python;
use crate::toolchain::record::cache_dir;

/// Scrapes, evaluates, and tests alerts.
const PROMETHEUS: [&str; 2] = ["prometheus", "promtool"];
/// Parses a scrape as strictly as the standard is.
const PARSER: &str = "prometheus_client==0.26.0";
/// What the presets for Python are tried on, in an environment that the tests know by this name. setproctitle is what
/// Dask and pytest-xdist show with what they run.
const PRESETS: (&str, [&str; 7]) = (
    "presets",
    [
        "joblib==1.5.2",
        "pytest==8.4.2",
        "pytest-xdist==3.8.0",
        "distributed==2026.8.0",
        "jupyter-server==2.21.1",
        "ipykernel==7.4.0",
        "setproctitle==1.3.8",
    ],
);
/// Drives the browser.
const PLAYWRIGHT: &str = "playwright-core@1.65.0";

/// Fetches what is not there.
pub(crate) fn run_tools() -> Result<()> {
    let folder = cache_dir().context("no cache folder")?.join("tools");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    prometheus(&folder)?;
    parser()?;
    presets()?;
    playwright(&folder)?;
    browser()
}

/// The Python programs that presets are tried on.
pub(crate) fn presets() -> Result<()> {
    python::environment(PRESETS.0, &PRESETS.1).map(drop)
}

fn prometheus(folder: &Path) -> Result<()> {
    let there = |name: &&str| !in_path(name).is_empty() || folder.join("usr/bin").join(name).is_file();
    if PROMETHEUS.iter().all(there) {
        return Ok(());
    }
    if !debian::can_fetch() {
        bail!("prometheus is not in PATH, and only Debian's package can be fetched");
    }
    let state = tempfile::tempdir()?;
    let apt = Apt::open(state.path(), &Suites::of_release(&release()?))?;
    step(&format!("Fetching Debian's prometheus into {}", folder.display()));
    apt.fetch_newest("prometheus", folder)
}

fn parser() -> Result<()> {
    match client_test::environment()? {
        Environment::Ready(bin) => {
            let install = ["install", "--quiet", "--disable-pip-version-check", PARSER];
            run("Prometheus' parser for Python", Command::new(bin.join("pip")).args(install))
        }
        Environment::Missing(why) => bail!("no environment for Prometheus' parser: {why}"),
    }
}

fn playwright(folder: &Path) -> Result<()> {
    if folder.join("node_modules/playwright-core/package.json").is_file() {
        return Ok(());
    }
    if in_path("npm").is_empty() {
        step("No npm: the pages are not tested in a browser");
        return Ok(());
    }
    let mut npm = Command::new("npm");
    // The browser is Debian's.
    npm.env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(folder).arg(PLAYWRIGHT);
    output(&mut npm).map(drop)
}

fn browser() -> Result<()> {
    if !in_path("chromium").is_empty() {
        return Ok(());
    }
    match debian::obstacle() {
        Some(obstacle) => {
            step(&format!(
                "No chromium, and it cannot be installed ({obstacle}): the pages are not tested in it"
            ));
            Ok(())
        }
        None => debian::install("the browser in which pages are tested", &["chromium", "fonts-dejavu-core"]),
    }
}
