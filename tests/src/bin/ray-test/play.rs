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
use crate::storm;

/// The summary is printed once a second.
const SUMMARY: Duration = Duration::from_millis(1500);

/// The memory is read this often.
const LOOK: Duration = Duration::from_millis(5);

/// So much may be used above the threshold: by the raylet, the drivers and the store, which nobody pauses.
const OVER: u64 = 64 << 20;

/// A case takes no longer.
const LONGEST: Duration = Duration::from_secs(240);

/// What a program left.
struct Outcome {
    /// What did not hold meanwhile.
    faults: Vec<String>,
    succeeded: bool,
    /// The most memory that was used, without page cache, as far as that was seen.
    most: Bytes,
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
    let mut node = RayNode::new(&case.setting)?;
    let outcome = finish(&mut node, case, &args.python, stop)?;
    std::thread::sleep(SUMMARY);
    let (peak, oom_kills, by_raylet) = (node.peak()?, node.sandbox.oom_kills()?, node.raylet_kills()?);
    // An agent that was killed for good counts nothing.
    let counters = if case.agent_kills == 0 { node.counters()? } else { None };
    let mut faults = outcome.faults.clone();
    let mut check = |held: bool, what: String| {
        if !held {
            faults.push(what);
        }
    };
    check(outcome.succeeded, "the program failed".to_owned());
    check(outcome.printed.contains(case.prints), format!("it did not print {:?}", case.prints));
    // Without an agent nobody is paused, and the kernel may be faster than Ray's monitor.
    check(oom_kills == 0 || case.agent_kills > 0, format!("the kernel killed {oom_kills} processes"));
    let (least, most) = case.kills;
    if case.setting.guarded {
        check(
            (least..=most).contains(&by_raylet),
            format!("the raylet says that it killed {by_raylet} workers, not {least} to {most}"),
        );
    }
    if let Some(counters) = &counters {
        let number = |name: &str| counters[name].as_u64().unwrap_or(0);
        check(number("left") >= least, format!("{} kills were left to it", number("left")));
        check(number("left_late") == 0, format!("{} times it was late", number("left_late")));
        check(number("killed") == by_raylet, format!("the agent counts {} workers killed", number("killed")));
        let most = outcome.most;
        check(
            most <= bound(case),
            format!("{most} were used without page cache, the bound is {}", bound(case)),
        );
    }
    print(case, &outcome, peak, by_raylet, counters.as_ref(), &faults);
    if args.verbose || !faults.is_empty() {
        println!("--- printed\n{}", outcome.printed);
        if let Some(agent) = &node.agent {
            println!("--- the agent\n{}", agent.said().join("\n"));
        }
    }
    Ok(faults.is_empty())
}

/// Runs a case's program with its Ray.
fn finish(node: &mut RayNode, case: &Case, python: &Path, stop: &AtomicBool) -> Result<Outcome> {
    let began = Instant::now();
    let mut child = node.start(python, &case.program, &case.arguments, case.head)?;
    let faults = match case.agent_kills {
        0 => Vec::new(),
        times => storm::strike(node, times, &mut child, stop)?,
    };
    // The storm lasts as long as it takes; what comes after it does not.
    let (since, mut most) = (Instant::now(), Bytes(0));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if since.elapsed() > LONGEST || stop.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            break None;
        }
        most = most.max(node.sandbox.used()?);
        std::thread::sleep(LOOK);
    };
    let succeeded = status.is_some_and(|status| status.success());
    Ok(Outcome { faults, succeeded, most, printed: node.printed()?, took: began.elapsed() })
}

/// Page cache does not count towards the threshold. What is paused grows no more; what is no worker does.
fn bound(case: &Case) -> Bytes {
    Bytes((case.setting.mib << 20) * case.setting.threshold / 100 + OVER)
}

fn print(
    case: &Case,
    outcome: &Outcome,
    peak: Bytes,
    by_raylet: u64,
    counters: Option<&Value>,
    faults: &[String],
) {
    let (took, most) = (outcome.took.as_secs_f64(), outcome.most);
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
    println!(
        "{held}: {}: {took:.1} s, used {most} of {limit} (peak with cache {peak}), raylet killed {by_raylet}{agent}",
        case.name
    );
    for fault in faults {
        println!("  {fault}");
    }
}
