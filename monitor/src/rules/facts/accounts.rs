//! The users of this machine: what they are called, and which of them are the system's.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// systemd gives these to services for as long as they run (`DynamicUser=`, <https://systemd.io/UIDS-GIDS>).
const OF_SERVICES: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The first ordinary user where /etc/login.defs does not say.
const FIRST: u32 = 1000;

/// See the module.
#[derive(Debug, Clone)]
pub struct Accounts {
    names: HashMap<u32, String>,
    first: u32,
    own: u32,
}

impl Default for Accounts {
    /// Nothing was read yet.
    fn default() -> Self {
        Self { names: HashMap::new(), first: FIRST, own: rustix::process::geteuid().as_raw() }
    }
}

impl Accounts {
    /// The names of the users that /etc/passwd below `base` has. Others are known by their numbers only: a directory service that does
    /// not answer must not hold up the caller.
    #[must_use]
    pub fn read(base: &Path) -> Self {
        let text = fs::read_to_string(base.join("etc/passwd")).unwrap_or_default();
        let mut names = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split(':');
            if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1))
                && let Ok(uid) = uid.parse()
            {
                names.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        let first =
            first(&fs::read_to_string(base.join("etc/login.defs")).unwrap_or_default()).unwrap_or(FIRST);
        Self { names, first, ..Self::default() }
    }

    /// What a user is called.
    #[must_use]
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(String::as_str)
    }

    /// Whether this is root, the user of a service, or the user who runs the monitor: nobody else starts anything as one of
    /// these.
    #[must_use]
    pub fn is_system(&self, uid: u32) -> bool {
        uid < self.first || uid == self.own || OF_SERVICES.contains(&uid)
    }

    /// Whether a process with these real, effective, saved and file-system users acts for another user: they differ, and one
    /// of them is the system's. Ordinary users can have processes of two of their own (`newuidmap`).
    #[must_use]
    pub fn acts_for_another(&self, uids: &[u32]) -> bool {
        let differ = uids.iter().any(|uid| Some(uid) != uids.first());
        differ && uids.iter().any(|uid| self.is_system(*uid))
    }
}

/// `UID_MIN` of login.defs(5).
fn first(text: &str) -> Option<u32> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some("UID_MIN")).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_has_root_services_and_whoever_runs_this() {
        assert_eq!(first("# UID_MIN 7\nUID_MAX 60000\nUID_MIN\t\t  500\n"), Some(500));
        assert_eq!(first("MAIL_DIR /var/mail\n"), None);
        let accounts = Accounts { names: HashMap::new(), first: 500, own: 4000 };
        for (uid, system) in [
            (0, true),
            (499, true),
            (500, false),
            (4000, true),
            (60_000, false),
            (61_184, true),
            (65_534, false),
        ] {
            assert_eq!(accounts.is_system(uid), system, "{uid}");
        }
        assert!(accounts.acts_for_another(&[1000, 0, 0, 0]), "su");
        assert!(accounts.acts_for_another(&[0, 1000, 0, 1000]), "a service that acts for a user");
        assert!(!accounts.acts_for_another(&[1000, 100_000, 1000, 1000]), "both are the user's");
        assert!(!accounts.acts_for_another(&[1000, 1000, 1000, 1000]));
    }
}
