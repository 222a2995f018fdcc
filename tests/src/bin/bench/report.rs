//! Everything that was measured, as it is written to `bench.json`. All sizes in bytes, all times in nanoseconds.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::machine::Machine;
use crate::{
    cases, decision, faults, goodput, hooks, idle, markdown, programs, ray, release, rules, scale, side,
};

/// `None`: that part was not asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) full: bool,
    pub(crate) kills: Option<Vec<cases::Measured>>,
    pub(crate) side_by_side: Option<Vec<side::Compared>>,
    pub(crate) faults: Option<Vec<faults::Cost>>,
    pub(crate) programs: Option<Vec<programs::Ran>>,
    pub(crate) hooks: Option<Vec<hooks::Compared>>,
    pub(crate) idle: Option<idle::Idle>,
    pub(crate) release: Option<Vec<release::Release>>,
    pub(crate) goodput: Option<Vec<goodput::Outcome>>,
    pub(crate) scale: Option<Vec<scale::Row>>,
    pub(crate) decision: Option<Result<Vec<decision::Decision>, String>>,
    pub(crate) rules: Option<rules::Measured>,
    pub(crate) ray: Option<ray::Ray>,
}

impl Report {
    pub(crate) fn new(full: bool) -> Result<Self> {
        Ok(Self {
            machine: Machine::look()?,
            full,
            kills: None,
            side_by_side: None,
            faults: None,
            programs: None,
            hooks: None,
            idle: None,
            release: None,
            goodput: None,
            scale: None,
            decision: None,
            rules: None,
            ray: None,
        })
    }

    /// Writes both forms to `dir` and prints the one for people.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let text = markdown::render(self);
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        for (name, content) in
            [("bench.json", serde_json::to_string_pretty(self)?), ("bench.md", text.clone())]
        {
            let path = dir.join(name);
            fs::write(&path, content).with_context(|| path.display().to_string())?;
        }
        if let Some(outcomes) = &self.goodput {
            let path = dir.join("goodput.svg");
            fs::write(&path, goodput::chart::draw(outcomes)).with_context(|| path.display().to_string())?;
        }
        println!("{text}");
        eprintln!("written: {}", dir.join("bench.{md,json}").display());
        Ok(())
    }
}
