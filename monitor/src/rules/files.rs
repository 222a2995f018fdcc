//! Where rules are written: the files of a directory `rules.d`, the configuration file, and presets, in this order. All or
//! nothing: one fault, and none of them is in force.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::parse::{self, ParseError};
use super::presets;
use super::{Mode, RuleError, RuleSpec, Rules, trust};

/// A file of rules is a few kB. The limit keeps a wrong path from filling the memory.
const FILE_LIMIT: u64 = 1 << 20;

/// The most files of a directory.
const MOST_FILES: usize = 256;

/// The directory beside the configuration file.
pub const DIRECTORY: &str = "rules.d";

/// The rules of an agent that was told nothing else.
pub const DEFAULT_DIRECTORY: &str = "/etc/monitor/rules.d";

/// Where rules come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A directory of files `*.toml`; `None`: no directory.
    pub directory: Option<PathBuf>,
    /// Whether the directory must exist: it was named.
    pub directory_named: bool,
    /// The configuration file, with its text.
    pub configuration: Option<(PathBuf, String)>,
    /// Names of presets; `system` is in force without being named.
    pub presets: Vec<String>,
    /// What is set for all rules.
    pub mode: Option<Mode>,
}

/// Everything that is wrong with rules, one on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

impl From<Vec<ParseError>> for Faults {
    fn from(errors: Vec<ParseError>) -> Self {
        Self(errors.iter().map(ToString::to_string).collect())
    }
}

impl From<Vec<RuleError>> for Faults {
    fn from(errors: Vec<RuleError>) -> Self {
        Self(errors.iter().map(ToString::to_string).collect())
    }
}

impl Sources {
    /// Reads and compiles them all.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn load(&self) -> Result<Rules, Faults> {
        let mut specs = Vec::new();
        let mut faults = Vec::new();
        let mut take = |read: Result<Vec<RuleSpec>, Faults>| match read {
            Ok(read) => specs.extend(read),
            Err(Faults(wrong)) => faults.extend(wrong),
        };
        if let Some(directory) = &self.directory {
            match files(directory, self.directory_named) {
                Ok(files) => files.iter().for_each(|file| take(read(file))),
                Err(fault) => take(Err(Faults(vec![fault]))),
            }
        }
        if let Some((path, text)) = &self.configuration {
            let file: Arc<str> = path.display().to_string().into();
            let found = parse::rules_in_configuration(&file, text).map_err(Faults::from);
            // Every program may take settings from the file; rules are taken only where root alone can write them.
            let found = match found {
                Ok(rules) if !rules.is_empty() => trusted(path).map(|()| rules),
                other => other,
            };
            take(found);
        }
        let mut named: Vec<&str> = Vec::new();
        for name in self.presets.iter().map(String::as_str).chain([presets::SYSTEM]) {
            if named.contains(&name) {
                continue;
            }
            named.push(name);
            match presets::by_name(name) {
                Some(preset) => take(preset.rules().map_err(Faults::from)),
                None => take(Err(Faults(vec![no_preset(name)]))),
            }
        }
        match Rules::compile(&specs, self.mode) {
            Ok(rules) if faults.is_empty() => Ok(rules),
            Ok(_) => Err(Faults(faults)),
            Err(wrong) => {
                faults.extend(Faults::from(wrong).0);
                Err(Faults(faults))
            }
        }
    }
}

/// How many rules these are and where they come from, as a sentence without its point: `12 rules from 2 presets and 3
/// files`. The built-in protection is not counted; `None`: there is nothing else.
#[must_use]
pub fn sentence(rules: &Rules) -> Option<String> {
    let built_in = presets::file_name(presets::SYSTEM);
    let places: Vec<&str> = rules.iter().map(|rule| &**rule.place().0).filter(|at| *at != built_in).collect();
    let distinct: BTreeSet<&str> = places.iter().copied().collect();
    let (of_presets, of_files): (Vec<&str>, Vec<&str>) = distinct
        .into_iter()
        .partition(|at| presets::PRESETS.iter().any(|one| presets::file_name(one.name) == *at));
    let count = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    let from = [count(of_presets.len(), "preset"), count(of_files.len(), "file")];
    let from = from.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    count(places.len(), "rule").map(|rules| format!("{rules} from {from}"))
}

/// What is wrong with the name of a preset.
#[must_use]
pub fn no_preset(name: &str) -> String {
    format!("presets: {name:?} is not a preset; allowed: {}", presets::names())
}

/// The rules of one file, which only root or the caller's user can change.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path) -> Result<Vec<RuleSpec>, Faults> {
    let (specs, faults) = read_with_faults(path);
    if faults.is_empty() { Ok(specs) } else { Err(Faults(faults)) }
}

/// What can be read of a file, and everything that is wrong with it.
#[must_use]
pub fn read_with_faults(path: &Path) -> (Vec<RuleSpec>, Vec<String>) {
    match text_of(path) {
        Ok((name, text)) => {
            let (specs, errors) = parse::rules_and_faults(&name, &text);
            (specs, Faults::from(errors).0)
        }
        Err(Faults(faults)) => (Vec::new(), faults),
    }
}

/// Its name for messages, and what is in it.
fn text_of(path: &Path) -> Result<(Arc<str>, String), Faults> {
    let name: Arc<str> = path.display().to_string().into();
    let one = |what: String| Faults(vec![format!("{name}:1: {what}")]);
    let mut bytes = Vec::new();
    // NONBLOCK: a pipe in a file's place must not hang the program.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let file = file.map_err(|errno| one(format!("cannot be read: {}", std::io::Error::from(errno))))?;
    trusted(path)?;
    let read = fs::File::from(file).take(FILE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| one(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(one(format!("it is too large; allowed: {FILE_LIMIT} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + good.filter(|byte| **byte == b'\n').count();
        Faults(vec![format!("{name}:{line}: it is not UTF-8 text; allowed: TOML")])
    })?;
    Ok((name, text))
}

fn trusted(path: &Path) -> Result<(), Faults> {
    trust::for_reading(path).map_err(|why| Faults(vec![format!("{}:1: {why}", path.display())]))
}

/// The files of a directory with names in .toml, sorted by name. Hidden ones are left out: editors leave such behind.
fn files(directory: &Path, named: bool) -> Result<Vec<PathBuf>, String> {
    let broken = |error: std::io::Error| format!("{}: cannot be read: {error}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(Vec::new()),
        Err(error) => return Err(broken(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(broken)?.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".toml") && !text.starts_with('.') {
            files.push(directory.join(&name));
        }
    }
    if files.len() > MOST_FILES {
        return Err(format!(
            "{}: {} files of rules; allowed: {MOST_FILES}",
            directory.display(),
            files.len()
        ));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(rules: &Rules) -> Vec<String> {
        let own = rules.iter().map(|rule| rule.name().to_string());
        own.filter(|name| !name.starts_with("system:")).collect()
    }

    #[test]
    fn files_come_by_name_then_the_configuration_then_presets_and_protection_first_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("20.toml", "[[rule]]\nname = \"second\"\nmatch.comm = \"x\"\n");
        write(
            "10.toml",
            "[[rule]]\nname = \"first\"\nmatch.comm = \"x\"\n[[rule]]\nname = \"keep\"\nprotect = true\nmatch.user = 7\n",
        );
        write(".30.toml", "nonsense");
        write("40.toml~", "nonsense");
        let file = dir.path().join("monitor.conf");
        fs::write(&file, "policy = \"by_time\"\n[[rule]]\nname = \"third\"\nmatch.comm = \"x\"\n").unwrap();
        let sources = Sources {
            directory: Some(dir.path().to_owned()),
            configuration: Some((file.clone(), fs::read_to_string(&file).unwrap())),
            presets: vec!["joblib".into(), "joblib".into(), "system".into()],
            ..Sources::default()
        };
        let rules = sources.load().unwrap();
        assert_eq!(names(&rules), ["keep", "first", "second", "third", "joblib:worker"]);
        assert_eq!(sentence(&rules).unwrap(), "5 rules from 1 preset and 3 files");
        assert_eq!(sentence(&Sources::default().load().unwrap()), None);
        let protecting = rules.iter().take_while(|rule| rule.protects()).count();
        assert_eq!(protecting, rules.iter().filter(|rule| rule.protects()).count());

        write("50.toml", "[[rule]]\nname = \"first\"\nmatch.comm = \"x\"\n");
        let faults = sources.load().unwrap_err();
        assert_eq!(faults.0.len(), 1);
        assert!(
            faults.0[0].contains("50.toml:2: name: the name \"first\" is taken by the rule at"),
            "{faults}"
        );
        write("50.toml", "[[rule]]\nnam = 1\n");
        write("60.toml", "x = [");
        let faults = sources.load().unwrap_err();
        assert!(faults.0[0].contains("50.toml:2: nam: unknown key"), "{faults}");
        assert!(faults.0[1].contains("60.toml:1"), "{faults}");
    }

    #[test]
    fn what_others_may_write_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, "[[rule]]\nname = \"a\"\nmatch.comm = \"x\"\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let sources = Sources { directory: Some(dir.path().to_owned()), ..Sources::default() };
        assert!(sources.load().unwrap_err().0[0].contains("can be changed by other users (mode 0666)"));
        let text = fs::read_to_string(&file).unwrap();
        let sources = Sources { configuration: Some((file.clone(), text)), ..Sources::default() };
        assert!(sources.load().unwrap_err().0[0].contains("can be changed by other users (mode 0666)"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(names(&sources.load().unwrap()), ["a"]);
    }

    #[test]
    fn a_directory_need_not_exist_unless_it_was_named_and_presets_must() {
        let directory = Some(PathBuf::from("/nonexistent/rules.d"));
        let sources = Sources { directory, ..Sources::default() };
        assert!(names(&sources.load().unwrap()).is_empty());
        let sources = Sources { directory_named: true, ..sources };
        assert!(sources.load().unwrap_err().0[0].contains("/nonexistent/rules.d: cannot be read"));
        let sources = Sources { presets: vec!["rya".into()], ..Sources::default() };
        assert!(
            sources.load().unwrap_err().0[0]
                .starts_with("presets: \"rya\" is not a preset; allowed: ray, kubernetes")
        );
    }
}
