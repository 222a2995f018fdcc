//! Registers the workers of raylets with an agent, as rules do where they act: by name and parent, idle or not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use monitor_tests::caller::{Caller, start_time};
use serde_json::json;

const EVERY: Duration = Duration::from_millis(20);

/// A thread that looks for workers until it is dropped.
pub(crate) struct Registrar {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registrar {
    pub(crate) fn start(socket: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut caller, mut known) = (None, BTreeMap::new());
            while !stopped.load(Ordering::Relaxed) {
                // The agent closes a connection that says nothing for long.
                if look(&socket, &mut caller, &mut known).is_err() {
                    caller = None;
                }
                std::thread::sleep(EVERY);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who was seen: its worker, and whether it was idle then.
type Known = BTreeMap<(u32, u64), (String, bool)>;

fn look(socket: &Path, caller: &mut Option<Caller>, known: &mut Known) -> Result<()> {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some(comm) = comm(pid).filter(|comm| comm.starts_with("ray::")) else { continue };
        // Ray's own helpers.
        if comm.starts_with("ray::Dashboard") || comm.starts_with("ray::RuntimeEnv") {
            continue;
        }
        let Ok(start) = start_time(pid) else { continue };
        let idle = comm.starts_with("ray::IDLE");
        match known.get_mut(&(pid, start)) {
            None => {
                if parent(pid).and_then(self::comm).as_deref() != Some("raylet") {
                    continue;
                }
                let register = json!({"register": {"pid": pid, "start_time": start, "kind": "task", "max_retries": -1,
                    "owner": "ray", "name": comm, "idle": idle}});
                let answer = connected(socket, caller)?.call(&register)?;
                let worker = answer["worker"].as_str().context("no worker")?;
                known.insert((pid, start), (worker.to_owned(), idle));
            }
            Some((worker, was)) if *was != idle => {
                *was = idle;
                let worker = worker.clone();
                connected(socket, caller)?.call(&json!({"set_idle": {"worker": worker, "idle": idle}}))?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn connected<'a>(socket: &Path, caller: &'a mut Option<Caller>) -> Result<&'a mut Caller> {
    if caller.is_none() {
        *caller = Some(Caller::connect(socket)?);
    }
    caller.as_mut().context("no connection")
}

fn comm(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
