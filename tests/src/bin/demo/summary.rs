//! The end: each kill's stages, what was measured, and whether all was as it must be.

use std::io;

use monitor::units::Bytes;
use monitor_tests::report::Kill;

use crate::screen::{Screen, offset};

/// Prints it. `names` gives a victim's name, `findings` what was wrong.
pub(crate) fn print(
    screen: &mut Screen,
    kills: &[Kill],
    names: impl Fn(&str) -> String,
    findings: &[String],
) -> io::Result<()> {
    screen.settle()?;
    screen.line("")?;
    screen.line(&format!(
        "{:<5} {:<7} {:<6} {:<11} {:>11} {:>14} {:>14} {:>14} {:>14}",
        "KILL", "VICTIM", "RETRY", "SEEN BY", "ABOVE BY", "DECISION", "SIGKILL", "DEAD", "MEMORY BACK"
    ))?;
    for kill in kills {
        let t = kill.times;
        let after = |stage| offset(t.crossing, stage);
        let victims: Vec<String> = kill.victims.iter().map(|victim| names(&victim.worker)).collect();
        let retry = kill.victims.iter().all(|victim| victim.should_retry);
        screen.line(&format!(
            "{:<5} {:<7} {:<6} {:<11} {:>11} {:>14} {:>14} {:>14} {:>14}",
            kill.id,
            victims.join(" "),
            if retry { "yes" } else { "no" },
            kill.trigger,
            Bytes(kill.used.saturating_sub(kill.threshold)).to_string(),
            after(t.decision),
            after(t.signal),
            after(t.dead),
            after(t.memory_back),
        ))?;
    }
    screen.line("(times since the kernel's record that crossed the threshold; without one, since the reading above it)")?;
    screen.line("")?;
    if let Some(text) = latency(kills) {
        screen.line(&text)?;
    }
    if findings.is_empty() {
        return screen.line(
            "All as it must be: every kill was the policy's choice and was confirmed before the next was decided,\n\
             every task finished in the end, and the kernel's own out-of-memory killer killed nobody.",
        );
    }
    screen.line("Not as it must be:")?;
    findings.iter().try_for_each(|finding| screen.line(&format!("  - {finding}")))
}

/// From the record that crossed to SIGKILL sent, over all kills that began with one: a reading is no start of anything.
fn latency(kills: &[Kill]) -> Option<String> {
    let signalled = |kill: &Kill| match kill.trigger.as_str() {
        "crossing" | "delta" => kill.times.signal?.checked_sub(kill.times.crossing?),
        _ => None,
    };
    let mut all: Vec<u64> = kills.iter().filter_map(signalled).collect();
    all.sort_unstable();
    let (least, most, median) = (*all.first()?, *all.last()?, *all.get(all.len() / 2)?);
    let ms = |nanos: u64| offset(Some(0), Some(nanos)).trim_start_matches('+').to_owned();
    Some(format!(
        "Crossing to SIGKILL sent: median {}, {} to {} ({} of {} kills began with a record).",
        ms(median),
        ms(least),
        ms(most),
        all.len(),
        kills.len()
    ))
}

#[cfg(test)]
mod tests {
    use monitor_tests::report::Times;

    use super::*;

    #[test]
    fn the_latency_is_that_of_kills_that_began_with_a_record() {
        let kill = |trigger: &str, crossing, signal| Kill {
            id: 1,
            domain: String::new(),
            victims: Vec::new(),
            used: 0,
            threshold: 0,
            times: Times { crossing, decision: None, signal, dead: None, memory_back: None },
            confirmed: true,
            trigger: trigger.into(),
        };
        let kills = [
            kill("crossing", Some(0), Some(300_000)),
            kill("crossing", None, Some(9)),
            kill("tick", Some(8), Some(9)),
            kill("delta", Some(5_000), Some(105_000)),
        ];
        let text = latency(&kills).unwrap();
        assert_eq!(
            text,
            "Crossing to SIGKILL sent: median 0.300 ms, 0.100 ms to 0.300 ms (2 of 4 kills began with a record)."
        );
        assert_eq!(latency(&[]), None);
    }
}
