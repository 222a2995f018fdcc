//! What a raylet's memory monitor works with. Its own log says it to the byte; where that cannot be read, its environment and
//! Ray's defaults. Pure: text in, numbers out.

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Ray's defaults.
const REFRESH_MS: u64 = 250;
const THRESHOLD: f32 = 0.95;

/// What the monitor says when it begins, of Ray 2.9 to 2.60.
const BEGINS: &str = "initialized with usage threshold at ";

/// A raylet's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// It kills above this.
    pub(crate) line: Bytes,
    /// What it takes for all its memory.
    pub(crate) total: Bytes,
    /// It reads its files this often; 0: never.
    pub(crate) refresh_ms: u64,
    /// Whether it says that it kills by owner, one at a time; none: it does not say.
    pub(crate) by_group: Option<bool>,
    /// Whether its own log said so, or its environment alone.
    pub(crate) from_log: bool,
}

impl Settings {
    /// By the text of its log, its environment (variables ended by zero bytes), and the total that its files show.
    pub(crate) fn of(log: &str, environment: &[u8], total: Bytes) -> Self {
        let variable = |name: &str| variable(environment, name);
        let refresh = variable("RAY_memory_monitor_refresh_ms").and_then(|value| value.parse().ok());
        let mut settings = Self {
            line: line_of(&variable, total),
            total,
            refresh_ms: refresh.unwrap_or(REFRESH_MS),
            by_group: variable("RAY_worker_killing_policy_by_group").map(|value| is_true(&value)),
            from_log: false,
        };
        // The last one: a log may be that of a raylet before it.
        let said = log.lines().rev().find_map(|line| Some(&line[line.find(BEGINS)? + BEGINS.len()..]));
        if let Some(said) = said
            && let (Some(line), Some(total)) =
                (number(said), number_after(said, "total system memory bytes: "))
        {
            (settings.line, settings.total, settings.from_log) = (Bytes(line), Bytes(total), true);
            settings.refresh_ms = number_after(said, "monitor interval: ").unwrap_or(settings.refresh_ms);
        }
        settings
    }
}

/// As Ray computes it: the share is a 32-bit float.
fn line_of(variable: &impl Fn(&str) -> Option<String>, total: Bytes) -> Bytes {
    let share = variable("RAY_memory_usage_threshold").and_then(|value| value.parse::<f32>().ok());
    let share = f64::from(share.unwrap_or(THRESHOLD).clamp(0.0, 1.0));
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and to the byte is not needed: the file keeps clear of the line"
    )]
    let by_share = (total.0 as f64 * share) as u64;
    let free = variable("RAY_min_memory_free_bytes").and_then(|value| value.parse::<u64>().ok());
    let by_free = free.map_or(0, |free| total.0.saturating_sub(free));
    Bytes(by_share.max(by_free))
}

fn variable(environment: &[u8], name: &str) -> Option<String> {
    let mut all = environment.split(|byte| *byte == 0);
    let value = all.find_map(|one| one.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true")
}

fn number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    number(&text[text.find(key)? + key.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[2026-11-29 19:34:49,092 I 1 1] (raylet) threshold_memory_monitor.cc:53: ThresholdMemoryMonitor \
        initialized with usage threshold at 2202009600 bytes (70.000000% of system memory), total system memory bytes: \
        3145728000, monitor interval: 100ms\n[state-dump] more\n";

    #[test]
    fn its_log_says_it_to_the_byte() {
        let said = Settings::of(LOG, b"RAY_memory_usage_threshold=0.5\0", Bytes(1 << 40));
        assert_eq!(
            said,
            Settings {
                line: Bytes(2_202_009_600),
                total: Bytes(3_145_728_000),
                refresh_ms: 100,
                by_group: None,
                from_log: true
            }
        );
        let old = "MemoryMonitor initialized with usage threshold at 950 bytes (0.95 system memory), total system memory bytes: 1000";
        let said = Settings::of(old, b"RAY_memory_monitor_refresh_ms=10\0", Bytes(5));
        assert_eq!((said.line, said.total, said.refresh_ms), (Bytes(950), Bytes(1000), 10));
    }

    #[test]
    fn without_a_log_the_environment_says_it_and_what_it_leaves_out_is_as_in_ray() {
        let environment = b"A=1\0RAY_memory_usage_threshold=0.5\0RAY_min_memory_free_bytes=100\0RAY_worker_killing_policy_by_group=true\0";
        let said = Settings::of("no such line", environment, Bytes(1000));
        assert_eq!((said.line, said.refresh_ms, said.by_group), (Bytes(900), 250, Some(true)));
        let said = Settings::of(
            "",
            b"RAY_memory_monitor_refresh_ms=0\0XRAY_memory_usage_threshold=0\0",
            Bytes(1 << 40),
        );
        assert_eq!((said.refresh_ms, said.by_group), (0, None));
        let off = said.line.0.abs_diff((1 << 40) / 100 * 95);
        assert!(off < 1 << 20, "{off}: the nearest 32-bit float is not 0.95");
    }
}
