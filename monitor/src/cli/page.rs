//! `monitor kills N --html FILE`: the report of a kill as a page that stands alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::ask::{self, Ask, complain};
use super::{exit, past};
use crate::control::client::ClientError;
use crate::control::protocol::Op;
use crate::engine::KillId;
use crate::journal;
use crate::page;
use crate::report::Report;
use crate::series::Series;

/// Stands for stdout.
const STDOUT: &str = "-";

/// Writes the page of a kill to `file`: as the agent knows it, or as `journal` does. The exit status.
pub(super) fn write(ask: &Ask, kill: u64, journal: Option<&Path>, file: &Path) -> u8 {
    let found = match journal {
        Some(journal) => of_journal(journal, KillId(kill)),
        None => of_agent(ask, kill),
    };
    match found {
        Ok((report, series)) => {
            save(file, &page::report(&report, series.as_ref(), report.kill.at.as_deref()))
        }
        Err(status) => status,
    }
}

fn of_agent(ask: &Ask, kill: u64) -> Result<(Report, Option<Series>), u8> {
    let asked = ask::block_on(async {
        let mut client = ask.connect().await?;
        let report: Report = client.ask(Op::Report { kill }).await?;
        // An older agent has no samples.
        let series: Option<Series> = client.ask(Op::Samples { kill: Some(kill) }).await.ok();
        let status = client.call(Op::Status).await?;
        let journal = status["journal"]["path"].as_str().map(PathBuf::from);
        Ok::<_, ClientError>((report, series, journal))
    });
    match asked {
        Ok(Ok((report, series, journal))) => {
            let series = series.filter(|series| !series.is_empty());
            // The agent keeps the last charts only; the others are in its journal, for users that may read it.
            let older = || {
                let (mut kills, _) = journal::read(&journal?).ok()?;
                kills.remove(&KillId(kill))?.chart.map(|chart| *chart)
            };
            Ok((report, series.or_else(older)))
        }
        Ok(Err(error)) => Err(ask::refused(&error)),
        Err(error) => {
            complain(&error);
            Err(exit::FAILED)
        }
    }
}

fn of_journal(journal: &Path, kill: KillId) -> Result<(Report, Option<Series>), u8> {
    let mut kills = past::read(journal).ok_or(exit::FAILED)?;
    let Some(past) = kills.remove(&kill) else { return Err(past::no_such_kill(journal, kill)) };
    match past.report() {
        Some(report) => Ok((report, past.chart.map(|chart| *chart))),
        None => {
            let path = journal.display();
            complain(&format_args!("{path}: the journal has the decision of kill {kill}, and not its end"));
            Err(exit::FAILED)
        }
    }
}

fn save(file: &Path, page: &str) -> u8 {
    if file.as_os_str() == STDOUT {
        return ask::print(page);
    }
    match replace(file, page) {
        Ok(()) => exit::OK,
        Err(error) => {
            complain(&format_args!("cannot write {}: {error}", file.display()));
            exit::FAILED
        }
    }
}

/// Puts a new file there: in a directory that others may write to, a link there must not lead root elsewhere, and a file
/// there must not stay another user's.
fn replace(file: &Path, page: &str) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(file.file_name().ok_or(io::ErrorKind::IsADirectory)?);
    name.push(format!(".{}", std::process::id()));
    let beside = file.with_file_name(name);
    let mut new = File::options().write(true).create_new(true).open(&beside)?;
    let done = new.write_all(page.as_bytes()).and_then(|()| std::fs::rename(&beside, file));
    if done.is_err() {
        // It is named in the error what could not be done; what is left of it is of no use.
        let _ = std::fs::remove_file(&beside);
    }
    done
}
