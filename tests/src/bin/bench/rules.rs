//! Part `rules`: how soon a process that a rule matches is a worker, what the hooks of rules cost a machine that executes
//! programs without pause, and what an idle agent with rules costs beside one without.

mod idle;
mod soon;
mod storm;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use tempfile::TempDir;

use crate::Plan;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) soon: Vec<soon::Latency>,
    pub(crate) storm: Vec<storm::Cost>,
    pub(crate) idle: Vec<idle::Looking>,
}

pub(crate) fn measure(plan: &Plan) -> Result<Measured> {
    Ok(Measured { soon: soon::measure(plan)?, storm: storm::measure(plan)?, idle: idle::measure(plan)? })
}

/// A directory of rules that only root can change, for an agent of this program's.
struct RulesDir(TempDir);

impl RulesDir {
    fn new(rules: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("monitor-bench-").tempdir()?;
        std::fs::create_dir(dir.path().join("rules.d"))?;
        std::fs::write(dir.path().join("rules.d/10-bench.toml"), rules)?;
        Ok(Self(dir))
    }

    fn flags(&self) -> Result<[String; 2]> {
        let path = self.0.path().join("rules.d");
        Ok(["--rules".to_owned(), path.to_str().context("a path")?.to_owned()])
    }

    /// A program under another name, which becomes the kernel's name of the process.
    fn program(&self, name: &str, program: &str) -> Result<PathBuf> {
        let link = self.0.path().join(name);
        std::os::unix::fs::symlink(program, &link)?;
        Ok(link)
    }
}

/// A rule that goes by names, so that the kernel passes over all others, and one that goes by command lines, so that it tells
/// of every process. Nothing that is measured as a storm matches either.
const BY_NAME: &str = "[[rule]]\nname = \"bench\"\nmode = \"enforce\"\nmatch.comm = \"mt-bench*\"\n";
const BY_TITLE: &str = "[[rule]]\nname = \"bench\"\nmode = \"enforce\"\nmatch.title = \"mt-bench-[0-9]+ \"\n";
