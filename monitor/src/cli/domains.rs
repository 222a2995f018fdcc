//! `monitor domains`: what the node and given cgroups look like now (docs/behavior.md#interfaces). Needs no agent and
//! no root.
//!
//! Exit status: 0 if every domain is known; 1 if one is unknown (it is listed, with the reason); 2 usage.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{ask, exit};
use crate::config::{self, Config, ConfigFlags};
use crate::memory::path::CgroupPathError;
use crate::memory::{CgroupPath, DomainReader, Hierarchy, Level, ReadError, Roots, Source};
use crate::threshold::{Threshold, Usage};
use crate::units::Bytes;

/// Show the memory of the node and of cgroups, without an agent
///
/// Uses the agent's settings, from flags, environment and file (see `monitor config`).
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 every domain could be read; 1 a domain could not be read; 2 a wrong setting."
)]
pub struct Domains {
    /// TOML file with settings [default: /etc/monitor/monitor.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where procfs is mounted (in a container, the host's)
    #[arg(long, value_name = "DIR")]
    procfs: Option<OsString>,
    /// Where cgroups are mounted: a v2 mount, or the directory with v1's `memory`
    #[arg(long, value_name = "DIR")]
    cgroupfs: Option<OsString>,
    /// Show this cgroup too, by its path in the memory controller's hierarchy; may be repeated
    #[arg(long = "cgroup", value_name = "PATH")]
    cgroups: Vec<OsString>,
    /// The fraction of a domain's memory that may be used, 0 to 1
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    usage_threshold: Option<OsString>,
    /// Kill nobody while this much is free, whatever the fraction says; -1: unset
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    min_memory_free: Option<OsString>,
    /// Count swap as memory
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    count_swap: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the answer (docs/behavior.md#interfaces). Unknown is null.
#[derive(Debug, Serialize)]
struct Row {
    domain: String,
    total: Option<Bytes>,
    used: Option<Bytes>,
    threshold: Option<Bytes>,
    /// Without a limit nothing can be above it: false. Unknown: null.
    above: Option<bool>,
    source: Option<Source>,
    /// Why something is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Domains {
    /// Reads and prints all of them; the exit status.
    ///
    /// # Errors
    /// A cgroup's path is none.
    pub fn run(&self) -> anyhow::Result<u8> {
        let config = match config::load(&self.flags()) {
            Ok(resolved) => {
                ask::warn(&resolved.warnings);
                resolved.config
            }
            Err(errors) => {
                ask::list(&errors);
                return Ok(exit::USAGE);
            }
        };
        let threshold =
            Threshold { usage_threshold: config.usage_threshold, min_memory_free: config.min_memory_free };
        let rows = rows(&config, threshold)?;
        let text = if self.json { serde_json::to_string_pretty(&rows)? + "\n" } else { table(&rows)? };
        Ok(match ask::print(&text) {
            exit::OK if rows.iter().any(|row| row.error.is_some()) => exit::FAILED,
            status => status,
        })
    }

    fn flags(&self) -> ConfigFlags {
        let mut flags = ConfigFlags::default();
        flags.file.clone_from(&self.config);
        let given = [
            ("procfs", &self.procfs),
            ("cgroupfs", &self.cgroupfs),
            ("usage_threshold", &self.usage_threshold),
            ("min_memory_free", &self.min_memory_free),
            ("count_swap", &self.count_swap),
        ];
        let given = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        given
            .fold(flags, |flags, (key, value)| flags.and(key, value))
            .and_all("cgroups", self.cgroups.clone())
    }
}

/// # Errors
/// A cgroup path that the configuration let pass is none.
fn rows(config: &Config, threshold: Threshold) -> Result<Vec<Row>, CgroupPathError> {
    let roots = Roots { procfs: config.procfs.clone(), cgroupfs: config.cgroupfs.clone() };
    let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs);
    let node = match &hierarchy {
        Ok(hierarchy) => Ok(Some(hierarchy)),
        // No cgroups with memory: then nothing but the host limits the node.
        Err(ReadError::NoController { .. }) => Ok(None),
        Err(error) => Err(error.clone()),
    }
    .and_then(|hierarchy| DomainReader::node(&roots, hierarchy, config.count_swap)?.read());

    let mut row = Row::new("node".to_owned(), node, threshold);
    if let Err(error) = row.total.map_or(Ok(()), |total| threshold.check_node(total)) {
        (row.threshold, row.above, row.error) = (None, None, Some(error.to_string()));
    }
    let mut rows = vec![row];
    let mut seen: Vec<CgroupPath> = Vec::new();
    for path in &config.cgroups {
        let cgroup = CgroupPath::new(path.as_os_str())?;
        if seen.contains(&cgroup) {
            continue;
        }
        let level = hierarchy.as_ref().map_err(Clone::clone).and_then(|hierarchy| {
            DomainReader::cgroup(&roots, hierarchy, &cgroup, config.count_swap)?.read()
        });
        rows.push(Row::new(format!("cgroup:{cgroup}"), level, threshold));
        seen.push(cgroup);
    }
    Ok(rows)
}

impl Row {
    fn new(domain: String, level: Result<Level, ReadError>, threshold: Threshold) -> Self {
        let unknown = |error: String| Self {
            domain: domain.clone(),
            total: None,
            used: None,
            threshold: None,
            above: None,
            source: None,
            error: Some(error),
        };
        match level {
            Err(error) => unknown(error.to_string()),
            Ok(Level::NoLimit { used, source }) => Self {
                used: Some(used),
                above: Some(false),
                source: Some(source),
                error: None,
                ..unknown(String::new())
            },
            Ok(Level::Limited(reading)) => {
                let line = threshold.at(reading.total);
                let usage =
                    line.map(|threshold| Usage { total: reading.total, used: reading.used, threshold });
                Self {
                    total: Some(reading.total),
                    used: Some(reading.used),
                    threshold: line.ok(),
                    above: usage.ok().map(Usage::above),
                    source: Some(reading.source),
                    error: line.err().map(|error| error.to_string()),
                    ..unknown(String::new())
                }
            }
        }
    }
}

fn table(rows: &[Row]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let size = |bytes: Option<Bytes>, none: &str| bytes.map_or(none.to_owned(), |bytes| bytes.to_string());
    let width = rows.iter().map(|row| row.domain.chars().count()).max().unwrap_or(0).max("DOMAIN".len());
    writeln!(
        out,
        "{:width$} {:>12} {:>12} {:>12} {:>6}  SOURCE",
        "DOMAIN", "TOTAL", "USED", "THRESHOLD", "ABOVE"
    )?;
    for row in rows {
        let limited = if row.used.is_some() && row.error.is_none() { "no limit" } else { "unknown" };
        let above = match row.above {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        writeln!(
            out,
            "{:width$} {:>12} {:>12} {:>12} {above:>6}  {}",
            row.domain,
            size(row.total, limited),
            size(row.used, "unknown"),
            size(row.threshold, limited),
            row.source.map_or("-", Source::name),
        )?;
    }
    for (domain, error) in rows.iter().filter_map(|row| Some((&row.domain, row.error.as_ref()?))) {
        writeln!(out, "{domain}: {error}")?;
    }
    Ok(out)
}
