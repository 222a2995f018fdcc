//! `--rules`: the same workers as plain programs that know nothing of the agent, and the rules that make workers of them.

use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cast::{Kind, Role};

/// What a program is called says whose it is: `task-A1`, `actor-A`.
const RULES: &str = r#"[[rule]]
name = "tasks"
mode = "enforce"
retriable = true
owner = "{caller}"
worker_name = "{caller}{number}"
match.comm = "task-{caller:[AB]}{number}"

[[rule]]
name = "actors"
mode = "enforce"
kind = "actor"
owner = "{caller}"
worker_name = "{comm}"
match.comm = "actor-{caller:[AB]}"
"#;

/// A directory with the rules and the programs.
#[derive(Debug)]
pub(crate) struct Unaware {
    dir: TempDir,
}

impl Unaware {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("monitor-demo-").tempdir()?;
        std::fs::create_dir(dir.path().join("rules.d"))?;
        std::fs::write(dir.path().join("rules.d/demo.toml"), RULES)?;
        Ok(Self { dir })
    }

    /// The flags of an agent with these rules.
    pub(crate) fn flags(&self) -> Result<[String; 2]> {
        let rules = self.dir.path().join("rules.d");
        Ok(["--rules".to_owned(), rules.to_str().context("a path")?.to_owned()])
    }

    /// The program of a role.
    pub(crate) fn command(&self, role: &Role) -> Result<Command> {
        let name = match role.kind {
            Kind::Task => format!("task-{}", role.name),
            Kind::Actor => role.name.clone(),
        };
        let (program, hog) = (self.dir.path().join(name), role.hog.command()?);
        if !program.exists() {
            symlink(hog.get_program(), &program)?;
        }
        let mut command = Command::new(program);
        command.args(hog.get_args());
        Ok(command)
    }
}
