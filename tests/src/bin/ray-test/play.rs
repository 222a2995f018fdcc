//! Runs the cases one after the other and says of each what held.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use monitor::units::Bytes;
use monitor_tests::ray_node::RayNode;
use serde_json::Value;

use crate::Args;
use crate::cases::{self, Case};

/// The summary is printed once a second.
const SUMMARY: Duration = Duration::from_millis(1500);

/// A case takes no longer.
const LONGEST: Duration = Duration::from_secs(240);

/// What a program left.
struct Outcome {
    succeeded: bool,
    printed: String,
    took: Duration,
}

pub(crate) fn play(args: &Args, stop: &AtomicBool) -> Result<bool> {
    let mut all = true;
    for case in cases::chosen(args) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        all &= run(args, &case, stop)?;
    }
    Ok(all)
}

fn run(args: &Args, case: &Case, stop: &AtomicBool) -> Result<bool> {
    let node = RayNode::new(&case.setting)?;
    let outcome = finish(&node, case, &args.python, stop)?;
    std::thread::sleep(SUMMARY);
    let (peak, oom_kills, by_raylet) = (node.peak()?, node.sandbox.oom_kills()?, node.raylet_kills()?);
    let counters = node.counters()?;
    let mut faults = Vec::new();
    let mut check = |held: bool, what: String| {
        if !held {
            faults.push(what);
        }
    };
    check(outcome.succeeded, "the program failed".to_owned());
    check(outcome.printed.contains(case.prints), format!("it did not print {:?}", case.prints));
    check(oom_kills == 0, format!("the kernel killed {oom_kills} processes"));
    if let Some(counters) = &counters {
        let (least, most) = case.kills;
        let number = |name: &str| counters[name].as_u64().unwrap_or(0);
        check(
            (least..=most).contains(&by_raylet),
            format!("the raylet says that it killed {by_raylet} workers, not {least} to {most}"),
        );
        check(number("left") >= least, format!("{} kills were left to it", number("left")));
        check(number("left_late") == 0, format!("{} times it was late", number("left_late")));
        check(number("killed") == by_raylet, format!("the agent counts {} workers killed", number("killed")));
        // Page cache may fill what nobody uses.
        check(most == 0 || peak <= bound(case), format!("the peak was {peak}, the bound is {}", bound(case)));
    }
    print(case, outcome.took.as_secs_f64(), peak, by_raylet, counters.as_ref(), &faults);
    if args.verbose || !faults.is_empty() {
        println!("--- printed\n{}", outcome.printed);
        if let Some(agent) = &node.agent {
            println!("--- the agent\n{}", agent.said().join("\n"));
        }
    }
    Ok(faults.is_empty())
}

/// Runs a case's program with its Ray.
fn finish(node: &RayNode, case: &Case, python: &Path, stop: &AtomicBool) -> Result<Outcome> {
    let began = Instant::now();
    let mut child = node.start(python, &case.program, &[], case.head)?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > LONGEST || stop.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let succeeded = status.is_some_and(|status| status.success());
    Ok(Outcome { succeeded, printed: node.printed()?, took: began.elapsed() })
}

/// Page cache counts towards the peak and not towards the threshold.
fn bound(case: &Case) -> Bytes {
    Bytes((case.setting.mib << 20) - 1)
}

fn print(case: &Case, took: f64, peak: Bytes, by_raylet: u64, counters: Option<&Value>, faults: &[String]) {
    let held = if faults.is_empty() { "ok" } else { "FAILED" };
    let agent = counters.map(|counters| {
        let number = |name: &str| counters[name].as_u64().unwrap_or(0);
        format!(
            "; agent: asked {}, confirmed {}, late {}, withdrawn {}, paused {}",
            number("left"),
            number("killed"),
            number("left_late"),
            number("left_withdrawn"),
            number("stopped")
        )
    });
    let (limit, agent) = (Bytes(case.setting.mib << 20), agent.unwrap_or_default());
    println!("{held}: {}: {took:.1} s, peak {peak} of {limit}, raylet killed {by_raylet}{agent}", case.name);
    for fault in faults {
        println!("  {fault}");
    }
}
