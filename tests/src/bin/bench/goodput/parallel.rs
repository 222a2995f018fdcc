//! The tasks under GNU parallel, which starts one only while `--memfree` is free, and kills the youngest below half of that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use monitor_tests::binary;
use monitor_tests::process::die_with_parent;

use super::watcher::Watcher;
use super::{AT_A_TIME, Outcome, sandbox, tasks};

/// The best size by hand: what the largest task needs.
const MEMFREE: &str = "150M";

/// Says when an attempt began and how it ended. parallel asks with SIGTERM first.
const WRAPPER: &str = r#"
log=$1; id=$2; shift 2
now() { date +%s%3N; }
echo "$id began $(now)" >> "$log"
"$@" & pid=$!
trap 'kill -9 $pid; wait $pid; echo "$id killed $(now)" >> "$log"; exit 143' TERM
wait $pid
code=$?
if [ $code = 0 ]; then echo "$id done $(now)" >> "$log"; else echo "$id killed $(now)" >> "$log"; fi
exit $code
"#;

pub(super) fn is_installed() -> bool {
    let version =
        Command::new("parallel").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

pub(super) fn measure(seed: u64) -> Result<Outcome> {
    let sandbox = Arc::new(sandbox()?);
    let watcher = Watcher::start(Arc::clone(&sandbox))?;
    let dir = tempfile::tempdir()?;
    let (log, wrapper, jobs) = (dir.path().join("log"), dir.path().join("wrapper"), dir.path().join("jobs"));
    std::fs::write(&wrapper, WRAPPER)?;
    let mut lines = String::new();
    for (id, task) in tasks(seed).into_iter().enumerate() {
        let hog = task.hog().args();
        let (log, wrapper) = (log.display(), wrapper.display());
        writeln!(lines, "sh {wrapper} {log} {id} {} {}", binary::hog()?.display(), hog.join(" "))?;
    }
    std::fs::write(&jobs, lines)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", r#"mount --bind "$0" /proc/meminfo && exec "$@""#])
        .arg(watcher.meminfo());
    command.args(["parallel", "--will-cite", "--retries", "100", "--memfree", MEMFREE]);
    command.arg(format!("-j{AT_A_TIME}")).arg("-a").arg(&jobs).env("HOME", dir.path());
    sandbox.enter(&mut command)?;
    die_with_parent(&mut command);
    let began = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().context("parallel")?;
    let makespan_ms = u64::try_from(began.elapsed().as_millis())?;
    let way = format!("GNU parallel --memfree {MEMFREE}");
    let mut outcome = Outcome { way, seed, makespan_ms, usage: watcher.end(), ..Outcome::default() };
    count(&std::fs::read_to_string(&log)?, &mut outcome)?;
    eprintln!("goodput: {}: {} kills, {} s", outcome.way, outcome.kills, makespan_ms / 1000);
    Ok(outcome)
}

fn count(log: &str, outcome: &mut Outcome) -> Result<()> {
    let (mut began, mut done) = (BTreeMap::new(), BTreeMap::new());
    for line in log.lines() {
        let mut words = line.split(' ');
        let (Some(id), Some(what), Some(at)) = (words.next(), words.next(), words.next()) else { continue };
        let at: u64 = at.parse().with_context(|| line.to_owned())?;
        done.entry(id).or_insert(false);
        if what == "began" {
            began.insert(id, at);
            continue;
        }
        // It may say twice that it was killed.
        let Some(began) = began.remove(id) else { continue };
        outcome.ran_ms += at.saturating_sub(began);
        if what == "killed" {
            outcome.kills += 1;
            outcome.lost_ms += at.saturating_sub(began);
        } else {
            done.insert(id, true);
        }
    }
    outcome.failed = u32::try_from(done.values().filter(|done| !**done).count())?;
    Ok(())
}
