//! `monitor domains`: what the node and given cgroups look like now (SPEC 11). Needs no agent and no root.
//!
//! Exit status: 0 if every domain is known; 1 if one is unknown (it is listed, with the reason); 2 usage.

use std::io::{self, Write};

use clap::Args;
use clap::error::ErrorKind;
use serde::Serialize;

use super::exit;
use super::roots::Roots;
use crate::memory::{DomainReader, Hierarchy, Level, ReadError, Source};
use crate::threshold::{Threshold, Usage};
use crate::units::Bytes;

/// Show how full the node and the given cgroups are
///
/// Exit status: 0 if every domain could be read, 1 if one is unknown, 2 for a mistake on the command line.
#[derive(Debug, Args)]
pub struct Domains {
    #[command(flatten)]
    roots: Roots,
    /// The share of a domain that may be used, 0 to 1
    #[arg(long, value_name = "F", default_value_t = Threshold::default().usage_threshold)]
    usage_threshold: f64,
    /// So much left free is enough, even where the share would allow less
    #[arg(long, value_name = "BYTES")]
    min_memory_free: Option<u64>,
    /// Count swap as memory
    #[arg(long)]
    count_swap: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the answer (SPEC 11). Unknown is null.
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
    /// stdout cannot be written to.
    pub fn run(&self) -> anyhow::Result<u8> {
        let threshold = Threshold {
            usage_threshold: self.usage_threshold,
            min_memory_free: self.min_memory_free.map(Bytes),
        };
        if let Err(error) = threshold.check_share() {
            // As clap does for what it checks itself.
            let _ = clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).print();
            return Ok(exit::USAGE);
        }
        let rows = self.rows(threshold);
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &rows)?;
            writeln!(out)?;
        } else {
            print_table(&mut out, &rows)?;
        }
        out.flush()?;
        Ok(if rows.iter().all(|row| row.error.is_none()) { exit::OK } else { exit::FAILED })
    }

    fn rows(&self, threshold: Threshold) -> Vec<Row> {
        let roots = self.roots.roots();
        let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs);
        let node = match &hierarchy {
            Ok(hierarchy) => Ok(Some(hierarchy)),
            // No cgroups with memory: then nothing but the host limits the node.
            Err(ReadError::NoController { .. }) => Ok(None),
            Err(error) => Err(error.clone()),
        }
        .and_then(|hierarchy| DomainReader::node(&roots, hierarchy, self.count_swap)?.read());

        let mut rows = vec![Row::new("node".to_owned(), node, threshold)];
        rows.extend(self.roots.distinct_cgroups().into_iter().map(|cgroup| {
            let level = hierarchy.as_ref().map_err(Clone::clone).and_then(|hierarchy| {
                DomainReader::cgroup(&roots, hierarchy, &cgroup, self.count_swap)?.read()
            });
            Row::new(format!("cgroup:{cgroup}"), level, threshold)
        }));
        rows
    }
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

fn print_table(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
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
    Ok(())
}
