//! What is allowed but probably a mistake: a threshold that is never exceeded, a variable that no program reads. Pure;
//! the caller that loads a configuration reports it.

use std::net::SocketAddr;

use super::Config;
use super::table::SETTINGS;
use super::values::FILE_ENV;
use crate::units::Bytes;

/// The variables of this program that are no settings.
const OTHERS: [&str; 3] = [FILE_ENV, LOG_ENV, "MONITOR_WORKER_ID"];

/// The variable that says what the log shows.
pub const LOG_ENV: &str = "MONITOR_LOG";

/// Variables of its build and its tests, which no command reads.
const NOT_OURS: [&str; 5] = ["TEST_", "SKIP_EBPF", "EBPF_TOOLCHAIN", "BPF_LINKER", "CACHE_DIR"];

/// Something that is worth a line. `Display` is that line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The threshold is the total.
    #[error(
        "{setting} puts the threshold at all of the memory: usage is never over it, so nobody is ever killed; to \
         switch killing off, say refresh_ms = 0"
    )]
    NeverOver {
        /// The setting with its value.
        setting: &'static str,
    },
    /// Everyone who can reach the node can read what is private on its socket.
    #[error(
        "http_details = true with http_listen = \"{address}\": everyone who can reach this address can see names \
         and memory of every user's workers"
    )]
    DetailsForAll {
        /// Where it listens.
        address: SocketAddr,
    },
    /// A variable that begins as ours do, and is none.
    #[error("environment {name}: no such variable{}", did_you_mean(*.suggestion))]
    UnknownVariable {
        /// As it is in the environment, control characters escaped.
        name: String,
        /// The one that is nearest, if one is near.
        suggestion: Option<&'static str>,
    },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(|| ": nothing reads it".to_owned(), |name| format!("; did you mean {name}?"))
}

impl Warning {
    /// Whether it is a name that was meant to be another.
    #[must_use]
    pub fn is_misspelt(&self) -> bool {
        matches!(self, Self::UnknownVariable { suggestion: Some(_), .. })
    }
}

/// What the values of a configuration are worth warning of.
pub(super) fn of(config: &Config) -> Vec<Warning> {
    let open = config.http_listen.filter(|address| config.http_details && !address.ip().is_loopback());
    let mut warnings: Vec<Warning> =
        open.map(|address| Warning::DetailsForAll { address }).into_iter().collect();
    // With killing off nothing is killed anyway.
    if config.refresh.is_some() {
        warnings.extend(never_over(config));
    }
    warnings
}

fn never_over(config: &Config) -> impl Iterator<Item = Warning> + use<> {
    let whole = [
        (config.usage_threshold >= 1.0, "usage_threshold = 1"),
        (config.min_memory_free == Some(Bytes(0)), "min_memory_free = 0"),
    ];
    let whole = whole.into_iter().filter(|(is, _)| *is);
    whole.map(|(_, setting)| Warning::NeverOver { setting })
}

/// The variables among `names` that begin as ours do and are none.
pub(super) fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<Warning> {
    let known = || SETTINGS.iter().map(|setting| setting.env).chain(OTHERS);
    let mut unknown: Vec<Warning> = names
        .filter(|name| !known().any(|known| known == name))
        .filter_map(|name| {
            let upper = name.to_ascii_uppercase();
            let rest = upper.strip_prefix("MONITOR_")?;
            if NOT_OURS.iter().any(|theirs| rest.starts_with(theirs)) {
                return None;
            }
            Some(Warning::UnknownVariable {
                suggestion: nearest(rest, known()),
                name: name.escape_debug().to_string(),
            })
        })
        .collect();
    unknown.sort_by_key(ToString::to_string);
    unknown
}

/// The variable with the nearest name, compared without the common prefix.
fn nearest(rest: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // As for the keys of a file.
    const NEAR: f64 = 0.8;
    let likeness = |known: &&str| strsim::jaro(rest, known.trim_start_matches("MONITOR_"));
    known.filter(|name| likeness(name) > NEAR).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(names: &[&str]) -> Vec<String> {
        let names = names.iter().map(|name| (*name).to_owned());
        unknown_variables(names).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn misspelt_variables_are_named_with_what_was_meant() {
        for (name, meant) in [
            ("MONITOR_USAGE_TRESHOLD", "MONITOR_USAGE_THRESHOLD"),
            ("MONITOR_REFRESH", "MONITOR_REFRESH_MS"),
            ("MONITOR_CGROUP", "MONITOR_CGROUPS"),
            ("MONITOR_MIN_FREE_MEMORY", "MONITOR_MIN_MEMORY_FREE"),
            ("monitor_policy", "MONITOR_POLICY"),
            ("MONITOR_LOGS", "MONITOR_LOG"),
        ] {
            assert_eq!(
                unknown(&[name]),
                [format!("environment {name}: no such variable; did you mean {meant}?")]
            );
        }
        assert_eq!(
            unknown(&["MONITOR_XYZZY"]),
            ["environment MONITOR_XYZZY: no such variable: nothing reads it"]
        );
        assert_eq!(unknown(&["MONITOR_\u{1b}"]).len(), 1);
        assert!(!unknown(&["MONITOR_\u{1b}"])[0].contains('\u{1b}'));
    }

    #[test]
    fn variables_that_are_read_or_are_none_of_ours_are_not_named() {
        let ours: Vec<&str> = SETTINGS.iter().map(|setting| setting.env).chain(OTHERS).collect();
        assert_eq!(unknown(&ours), [""; 0]);
        assert_eq!(
            unknown(&["MONITOR_TEST_PATIENCE", "MONITOR_SKIP_EBPF", "MONITORING", "PATH", "MONITOR"]),
            [""; 0]
        );
    }

    #[test]
    fn a_threshold_that_nothing_is_over_is_worth_a_line_where_somebody_would_be_killed() {
        let mut config = Config::defaults(0, None);
        assert_eq!(of(&config), []);
        config.usage_threshold = 1.0;
        assert!(of(&config)[0].to_string().starts_with("usage_threshold = 1 puts the threshold at all"));
        config.min_memory_free = Some(Bytes(0));
        assert_eq!(of(&config).len(), 2);
        config.refresh = None;
        assert_eq!(of(&config), []);
    }

    #[test]
    fn details_for_everybody_who_reaches_the_node_are_worth_a_line() {
        let mut config = Config { http_details: true, ..Config::defaults(0, None) };
        assert_eq!(of(&config), []);
        config.http_listen = Some("127.0.0.1:1".parse().unwrap());
        assert_eq!(of(&config), []);
        config.http_listen = Some("0.0.0.0:1".parse().unwrap());
        assert!(of(&config)[0].to_string().contains("every user's workers"), "{:?}", of(&config));
    }
}
