//! From what the sources give to what is in effect: precedence, notes, and every error. Pure: no file, no process
//! environment, no clock.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::config::error::{ConfigError, ConfigErrors};
use crate::config::file::{self, ConfigFile};
use crate::config::flags::ConfigFlags;
use crate::config::form::truth;
use crate::config::setting::{RayMeaning, Setting};
use crate::config::source::{Given, Source};
use crate::config::table::SETTINGS;
use crate::config::values::{AgentMode, Choice as _, DEFAULT_FILE};
use crate::config::warning::{self, Warning};

/// A value in effect, as `monitor config` shows it.
#[derive(Debug)]
pub struct Effective {
    /// Its row of the table.
    pub setting: &'static Setting,
    /// For programs; null where the text says `off`, `unset`, `none` or `auto`.
    pub json: serde_json::Value,
    /// For people.
    pub text: String,
    /// Who gave it.
    pub source: Source,
    /// What else one should know: a variable that says otherwise and does not count.
    pub note: Option<String>,
    /// What the file says, and where, if that does not count.
    pub overridden: Option<String>,
}

/// A configuration that may be used, with the sources of its values.
#[derive(Debug)]
pub struct Resolved {
    /// The values.
    pub config: Config,
    /// The same values with their sources, in the order of [`SETTINGS`].
    pub settings: Vec<Effective>,
    /// The file that was read, which may have rules in it.
    pub file: Option<ConfigFile>,
    /// What is allowed but probably a mistake.
    pub warnings: Vec<Warning>,
}

impl Resolved {
    /// The configuration file: the one that was read, or the one that would be.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.file.as_ref().map_or(Path::new(DEFAULT_FILE), |file| &file.path)
    }

    /// Whether this setting was given: by a flag, the environment or the file.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.settings
            .iter()
            .any(|effective| effective.setting.key == key && effective.source != Source::Default)
    }

    /// Which settings of the file do not count, because a flag or a variable says otherwise: a sentence each.
    #[must_use]
    pub fn overridden(&self) -> Vec<String> {
        let sentence = |row: &Effective| {
            let said = row.overridden.as_ref()?;
            Some(format!("{}: {said}, but {} counts", row.setting.key, row.source))
        };
        self.settings.iter().filter_map(sentence).collect()
    }

    /// The values with their sources as others are told them.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |row: &Effective| Shown {
            key: row.setting.key.to_owned(),
            value: row.json.clone(),
            text: row.text.clone(),
            source: row.source.to_string(),
            note: row.note.clone(),
        };
        self.settings.iter().map(shown).collect()
    }
}

/// A value in effect, as `monitor config` prints it and a running agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Shown {
    /// The setting.
    pub key: String,
    /// For programs.
    pub value: serde_json::Value,
    /// For people.
    pub text: String,
    /// Who gave it.
    pub source: String,
    /// What else one should know.
    pub note: Option<String>,
}

/// Decides each setting. Pure: `env` looks up a variable, `uid` is the effective user, who decides the defaults.
///
/// # Errors
///
/// Everything that is wrong in any of the sources.
pub fn resolve(
    flags: &ConfigFlags,
    env: &dyn Fn(&str) -> Option<OsString>,
    file: Option<&ConfigFile>,
    uid: u32,
) -> Result<Resolved, ConfigErrors> {
    let (entries, mut errors) = file.map(file::entries).unwrap_or_default();
    // A variable that is set to nothing is not set.
    let env = |name: &str| env(name).filter(|text| !text.is_empty());
    let mut config = Config::defaults(uid, env("XDG_RUNTIME_DIR").as_deref());
    let mut settled = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let mut candidates = from_file(setting, file, &entries);
        candidates.extend(from_environment(setting, &env));
        candidates.extend(flags.given(setting).map(|given| (Source::Flag(setting.flag), given)));
        settled.push(settle(setting, candidates, &mut config, &mut errors));
    }
    guard_something(&mut config, &mut settled, &mut errors);
    leave_rays_switch_to_ray(&mut config, &mut settled, |setting| from_file(setting, file, &entries));
    let interval = file_interval(file, &entries);
    agree_on_mode(&mut config, &mut settled, &mut errors, interval);
    let warnings = warning::of(&config);
    let settings: Vec<Effective> = settled
        .into_iter()
        .map(|Settled { setting, source, note, in_file }| {
            let text = setting.field.text(&config);
            let overridden = in_file.filter(|(from, said)| *from != source && *said != text);
            Effective {
                json: setting.field.json(&config),
                overridden: overridden.map(|(from, said)| format!("{} says {said}", from.place())),
                text,
                setting,
                source,
                note,
            }
        })
        .collect();
    ConfigErrors::unless_empty(errors, Resolved { config, settings, file: file.cloned(), warnings })
}

/// Checks a file by itself, whatever flags and environment say: how many settings it makes, and what they are.
///
/// # Errors
///
/// Everything that is wrong in it.
pub fn check(file: &ConfigFile) -> Result<(usize, Config), ConfigErrors> {
    let (entries, mut errors) = file::entries(file);
    let mut alone = Config::defaults(0, None);
    let mut settled = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        settled.push(settle(setting, from_file(setting, Some(file), &entries), &mut alone, &mut errors));
    }
    let interval = file_interval(Some(file), &entries);
    agree_on_mode(&mut alone, &mut settled, &mut errors, interval);
    ConfigErrors::unless_empty(errors, (entries.len(), alone))
}

/// The interval that the file sets, or the default.
fn file_interval(file: Option<&ConfigFile>, entries: &[file::Entry]) -> Option<Duration> {
    let mut alone = Config::defaults(0, None);
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == "refresh_ms") {
        // What is wrong there was said already.
        settle(setting, from_file(setting, file, entries), &mut alone, &mut Vec::new());
    }
    alone.refresh.or(Config::defaults(0, None).refresh)
}

fn from_file(setting: &Setting, file: Option<&ConfigFile>, entries: &[file::Entry]) -> Vec<(Source, Given)> {
    let Some(file) = file else { return Vec::new() };
    entries
        .iter()
        .filter(|entry| entry.setting.key == setting.key)
        .map(|entry| (Source::File { path: file.path.clone(), line: entry.line }, entry.given.clone()))
        .collect()
}

/// The variables that are set, weakest first.
fn from_environment(setting: &Setting, env: &dyn Fn(&str) -> Option<OsString>) -> Vec<(Source, Given)> {
    let ours = env(setting.env).map(|text| (Source::Environment(setting.env), Given::Text(text)));
    let rays = setting.ray.iter().filter_map(|ray| {
        env(ray.name).map(|text| (Source::Environment(ray.name), ray.meaning.translate(text)))
    });
    let mut candidates: Vec<_> = ours.into_iter().chain(rays).collect();
    candidates.reverse();
    candidates
}

/// A setting once it is decided who gave it.
struct Settled {
    setting: &'static Setting,
    source: Source,
    note: Option<String>,
    /// What the file says, and where.
    in_file: Option<(Source, String)>,
}

/// Applies the candidates, weakest first, so that the strongest stays; and says which it was.
fn settle(
    setting: &'static Setting,
    candidates: Vec<(Source, Given)>,
    config: &mut Config,
    errors: &mut Vec<ConfigError>,
) -> Settled {
    let mut winner = Source::Default;
    let mut in_file = None;
    let mut variables: Vec<(&str, String)> = Vec::new();
    for (source, given) in candidates {
        match setting.field.set(config, &given) {
            Ok(()) => {
                if let Source::Environment(name) = source {
                    variables.push((name, setting.field.text(config)));
                } else if let Source::File { .. } = source {
                    in_file = Some((source.clone(), setting.field.text(config)));
                }
                winner = source;
            }
            Err(refusal) => errors.push(ConfigError::Refused {
                key: setting.key,
                from: source,
                refusal,
                range: setting.field.range(),
            }),
        }
    }
    Settled { setting, source: winner, note: disagreement(&variables), in_file }
}

/// What the variables say that are weaker than the strongest variable and differ from it.
fn disagreement(variables: &[(&str, String)]) -> Option<String> {
    let ((name, value), weaker) = variables.split_last()?;
    let differing: Vec<String> = weaker
        .iter()
        .rev()
        .filter(|(_, other)| other != value)
        .map(|(other_name, other)| format!("{name} counts before {other_name}, which says {other}"))
        .collect();
    (!differing.is_empty()).then(|| differing.join("; "))
}

/// docs/behavior.md#interfaces: with cgroups named, the node is guarded only if a source says so.
fn guard_something(config: &mut Config, settled: &mut [Settled], errors: &mut Vec<ConfigError>) {
    let Some(Settled { source, note, .. }) = settled.iter_mut().find(|one| one.setting.key == "node") else {
        return;
    };
    if *source == Source::Default && !config.cgroups.is_empty() {
        config.node = false;
        *note = Some("cgroups are named, and --node is not given".to_owned());
    }
    // Refused cgroups still count as named.
    let refused = errors.iter().any(|e| matches!(e, ConfigError::Refused { key: "cgroups", .. }));
    if !config.node && config.cgroups.is_empty() && !refused {
        errors.push(ConfigError::NothingGuarded { from: source.clone() });
    }
}

/// Ray's own monitor is switched off by a variable that this program understands too. With the preset `ray` it is meant for
/// Ray alone: what is weaker than it counts, the file or the default.
fn leave_rays_switch_to_ray(
    config: &mut Config,
    settled: &mut [Settled],
    from_file: impl Fn(&Setting) -> Vec<(Source, Given)>,
) {
    const VARIABLE: &str = "RAY_memory_monitor_refresh_ms";
    let Some(one) = settled.iter_mut().find(|one| one.setting.key == "refresh_ms") else { return };
    if config.refresh.is_none() && config.follows_raylets() && one.source == Source::Environment(VARIABLE) {
        config.refresh = Config::defaults(0, None).refresh;
        // What is wrong in the file was said already.
        *one = settle(one.setting, from_file(one.setting), config, &mut Vec::new());
        one.note = Some(format!("{VARIABLE}=0 switches off Ray's own monitor, not this agent (preset ray)"));
    }
}

/// `mode` says in a word what `dry_run` and `refresh_ms = 0` say one by one. The stronger source counts; what the same source
/// says must agree. `weaker_refresh`: the interval that is in force where a stronger `mode` overrules a 0.
fn agree_on_mode(
    config: &mut Config,
    settled: &mut [Settled],
    errors: &mut Vec<ConfigError>,
    weaker_refresh: Option<Duration>,
) {
    let of = |settled: &[Settled], key: &str| {
        settled.iter().find(|one| one.setting.key == key).map_or(Source::Default, |one| one.source.clone())
    };
    let (mode, from) = (config.mode, of(settled, "mode"));
    let mut take = |key: &str, says: String, agrees: bool, is_opposite: bool| {
        let source = of(settled, key);
        if agrees || (is_opposite && source.rank() > from.rank()) {
            return false;
        }
        if is_opposite && source.rank() == from.rank() && source != Source::Default {
            let other = format!("{key} = {says} ({source})");
            errors.push(ConfigError::Contradiction { from: from.clone(), mode: mode.word(), other });
            return false;
        }
        if let Some(one) = settled.iter_mut().find(|one| one.setting.key == key) {
            (one.source, one.note) = (from.clone(), Some(format!("by mode = {mode}")));
        }
        true
    };
    if from != Source::Default {
        let (observes, is_off) = (mode == AgentMode::Observe, mode == AgentMode::Off);
        // What is off decides nothing, whatever dry_run says.
        if take("dry_run", config.dry_run.to_string(), is_off || config.dry_run == observes, true) {
            config.dry_run = observes;
        }
        // An interval is no opposite of off.
        let off = config.refresh.is_none();
        if take("refresh_ms", "0".to_owned(), off == is_off, off) {
            config.refresh = if is_off { None } else { weaker_refresh };
        }
    }
    let (follows, key) = match (config.refresh, config.dry_run) {
        (None, _) => (AgentMode::Off, "refresh_ms"),
        (Some(_), true) => (AgentMode::Observe, "dry_run"),
        (Some(_), false) => (AgentMode::Enforce, "dry_run"),
    };
    let source = of(settled, key);
    if let Some(one) = settled.iter_mut().find(|one| one.setting.key == "mode").filter(|_| follows != mode) {
        (one.source, one.note) = (source, Some(format!("follows {key}")));
        config.mode = follows;
    }
}

impl RayMeaning {
    /// The value of Ray's variable as our setting takes it.
    fn translate(self, text: OsString) -> Given {
        match self {
            Self::Same => Given::Text(text),
            Self::PolicyByGroup => match text.to_str().and_then(truth) {
                Some(true) => Given::Text("group_by_owner".into()),
                Some(false) => Given::Text("by_time".into()),
                None => Given::Text(text),
            },
        }
    }
}
