//! Configuration read again while the agent runs: which settings take effect at once, and which at the next start. A
//! thread that may wait for files reads them; if anything is wrong with them, the settings in force stay.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;

use crate::agent::event_loop::later::{Again, Later};
use crate::config::{self, Config, ConfigFlags, Shown};
use crate::control::answers::Reloaded;
use crate::control::request::{Peer, Reply};
use crate::engine::Settings;

/// The settings that take effect at once. Those of retries are read by each `monitor run` when it starts.
const AT_ONCE: [&str; 22] = [
    "refresh_ms",
    "usage_threshold",
    "min_memory_free",
    "oom_retries",
    "oom_retry_base_ms",
    "crash_retry_base_ms",
    "admission",
    "summary_interval_ms",
    "policy",
    "owner_tie_break",
    "unhelpful_kills",
    "kill_buffer",
    "idle_threshold",
    "min_victim_memory",
    "kill_timeout_ms",
    "memory_wait_ms",
    "grace_ms",
    "mode",
    "dry_run",
    "presets",
    "rules_mode",
    "rules",
];

/// Begins to read it again: with the flags of this agent, its environment, and the file as it is now.
pub(in crate::agent) fn begin(
    flags: ConfigFlags,
    asked: Option<(Peer, Reply)>,
    to_loop: UnboundedSender<Later>,
) {
    tokio::spawn(async move {
        let read = spawn_blocking(move || {
            let resolved = config::load(&flags).map_err(|errors| errors.to_string())?;
            let rules = resolved.rules_from().load().map_err(|faults| faults.to_string())?;
            Ok((resolved, rules))
        });
        let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
        // The loop is gone only when the agent is.
        let _ = to_loop.send(Later::Reloaded(Box::new(Again { read, asked })));
    });
}

/// What differs, and what of it takes effect at once.
pub(in crate::agent) fn compare(old: &[Shown], new: &[Shown]) -> Reloaded {
    let mut found = Reloaded::default();
    for (old, new) in old.iter().zip(new) {
        if old.value == new.value {
            found.unchanged += 1;
        } else if AT_ONCE.contains(&new.key.as_str()) {
            found.applied.push(new.key.clone());
        } else {
            found.needs_restart.push(new.key.clone());
        }
    }
    found
}

/// The settings in force after it: the new ones, but for those that wait for a start.
pub(in crate::agent) fn in_force(old: Vec<Shown>, new: Vec<Shown>) -> Vec<Shown> {
    let settle = |(old, new): (Shown, Shown)| {
        if old.value == new.value || AT_ONCE.contains(&new.key.as_str()) { new } else { old }
    };
    old.into_iter().zip(new).map(settle).collect()
}

/// The engine's settings of a configuration; what does not take effect at once is as in `old`.
pub(in crate::agent) fn settings(config: &Config, old: &Settings) -> Settings {
    Settings {
        refresh_ms: config.refresh.map_or(0, millis),
        usage_threshold: config.usage_threshold,
        min_memory_free: config.min_memory_free,
        policy: config.policy,
        owner_tie_break: config.owner_tie_break,
        kill_buffer: config.kill_buffer,
        idle_threshold: config.idle_threshold,
        min_victim_memory: config.min_victim_memory,
        kill_timeout_ms: millis(config.kill_timeout),
        memory_wait_ms: millis(config.memory_wait),
        admission: config.admission,
        unhelpful_kills: config.unhelpful_kills,
        grace_ms: millis(config.grace),
        dry_run: config.dry_run,
        ..old.clone()
    }
}

/// For settings in milliseconds.
pub(in crate::agent) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn what_takes_effect_at_once_are_settings() {
        for key in AT_ONCE {
            assert!(SETTINGS.iter().any(|setting| setting.key == key), "{key}");
        }
    }

    #[test]
    fn what_waits_for_a_start_is_not_in_force() {
        let row = |key: &str, value: u64| Shown {
            key: key.to_owned(),
            value: value.into(),
            text: value.to_string(),
            source: String::new(),
            note: None,
        };
        let old = vec![row("grace_ms", 1), row("socket", 2), row("policy", 3)];
        let new = vec![row("grace_ms", 9), row("socket", 9), row("policy", 3)];
        let found = compare(&old, &new);
        assert_eq!(
            (&found.applied[..], &found.needs_restart[..], found.unchanged),
            (&["grace_ms".to_owned()][..], &["socket".to_owned()][..], 1)
        );
        assert_eq!(in_force(old, new), [row("grace_ms", 9), row("socket", 2), row("policy", 3)]);
    }
}
