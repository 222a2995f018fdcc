//! The facts of a note as fields of systemd's journal, which `journalctl` selects by: lines of `KEY=value`, ready to be
//! sent. Their names and ids are promised in docs/operating.md.

use std::fmt::{Display, Write as _};

use crate::engine::{Chosen, KillRecord, Note, Release, VictimRecord};
use crate::printable::printable;
use crate::retry::KilledBy;

/// Its kind: the word for it, as in `monitor watch --json`, and systemd's id of a kind of message.
#[must_use]
pub fn kind(note: &Note) -> (&'static str, &'static str) {
    match note {
        Note::Registered { .. } => ("registered", "d8c6fa64a955437393dd2ce988b44b18"),
        Note::Ended { .. } => ("ended", "af2f045c5a344d1d95adf23273bdb15f"),
        Note::Above { .. } => ("above", "015e5cde4a044f4d9d91e15af5453101"),
        Note::Below { .. } => ("below", "ade1620a4fa7481e930185843e2be447"),
        Note::Waits { .. } => ("waits", "5b1c6f0e0d8b4a0f9d0c1f2b7a3e6d44"),
        Note::Begins { .. } => ("begins", "c04fb9f6d37e4e6d8b7d2a5f1e90b3a7"),
        Note::Decided { .. } => ("decided", "78fdf0bbbe1943a1839b87ff81ebdafe"),
        Note::Left { .. } => ("left", "4bf52c504b42486286efb76a42b59a80"),
        Note::Killed(_) => ("killed", "6c71a0c10a2149299f29759f561eeda5"),
        Note::Stuck { .. } => ("stuck", "a5ac14b0c4e04f40a04c6a5b2ab1ac17"),
        Note::DiedLate { .. } => ("died_late", "b237ac9231724ab5a25a4b615cb69691"),
        Note::Stray { .. } => ("stray", "f744d87ad9294a03b8613e3da731df34"),
        Note::Refused { .. } => ("refused", "5413d5880c74426aa4faeccabe8b1a8e"),
        Note::NoCandidates { .. } => ("no_candidates", "24c4f21175294c459df8a969e94fb5db"),
        Note::Unhelpful { .. } => ("unhelpful", "9b9e42706ef14d3d92fac1335c4c457f"),
        Note::Unknown { .. } => ("unknown", "a6b38fdae973418aa7d291b80ed44e98"),
        Note::Known { .. } => ("known", "78acdb9ac6994f73a5cb7ac590ccd168"),
        Note::Gear { .. } => ("gear", "b46fa45d93b34032a3ff534d82a64993"),
        Note::Stopped { .. } => ("stopped", "533bde24f5dc4a8398e398aaa22fe14a"),
        Note::Continued(_) => ("continued", "70404c55a4764a94877443b191b3e674"),
        Note::Lost { .. } => ("lost", "d280d64ec9f642ada452f25915f93ba2"),
    }
}

/// The id of a report.
const REPORT: &str = "42a3ad554a744503906b3461ca82f4e6";

/// A note's fields; `cgroup`: of its victim, from the root of the hierarchy, where that is known.
#[must_use]
pub fn of(note: &Note, cgroup: Option<&str>) -> String {
    let (word, id) = kind(note);
    let mut fields = Fields::new(word, id);
    match note {
        Note::Registered { worker, pid, owner, name, .. } => fields
            .put("WORKER", worker)
            .put("PID", pid)
            .maybe("NAME", name.as_ref())
            .maybe("OWNER", owner.as_ref()),
        Note::Ended { worker, .. }
        | Note::Stray { worker, .. }
        | Note::Waits { worker, .. }
        | Note::Begins { worker, .. } => fields.put("WORKER", worker),
        Note::Above { domain, used, threshold, .. }
        | Note::Below { domain, used, threshold, .. }
        | Note::NoCandidates { domain, used, threshold, .. }
        | Note::Unhelpful { domain, used, threshold, .. }
        | Note::Known { domain, used, threshold, .. } => {
            fields.put("DOMAIN", domain).put("USED", used.0).put("THRESHOLD", threshold.0)
        }
        Note::Decided { kill, domain, victims, .. } => {
            fields.put("KILL", kill).put("DOMAIN", domain).chosen(victims)
        }
        Note::Left { kill, domain, executor, .. } => {
            fields.put("KILL", kill).put("DOMAIN", domain).put("EXECUTOR", executor)
        }
        Note::Killed(record) => fields.kill(record),
        Note::Stuck { kill, worker, pids, .. } | Note::Refused { kill, worker, pids, .. } => {
            fields.put("KILL", kill).put("WORKER", worker).each("PID", pids)
        }
        Note::DiedLate { kill, worker, .. } => fields.put("KILL", kill).put("WORKER", worker),
        Note::Unknown { domain, .. } => fields.put("DOMAIN", domain),
        Note::Gear { gear, .. } => fields.put("GEAR", format!("{gear:?}").to_lowercase()),
        Note::Stopped { worker, pid, .. } | Note::Continued(Release { worker, pid, .. }) => {
            fields.put("WORKER", worker).put("PID", pid)
        }
        Note::Lost { records, .. } => fields.put("RECORDS", records),
    };
    if let Some(cgroup) = cgroup {
        fields.place(cgroup);
    }
    fields.0
}

/// The fields of a report.
#[must_use]
pub fn of_report(record: &KillRecord, cgroup: Option<&str>) -> String {
    let mut fields = Fields::new("report", REPORT);
    fields.kill(record);
    if let Some(cgroup) = cgroup {
        fields.place(cgroup);
    }
    fields.0
}

/// In the making.
struct Fields(String);

impl Fields {
    fn new(word: &str, id: &str) -> Self {
        let mut fields = Self(format!("MESSAGE_ID={id}\n"));
        fields.put("NOTE", word);
        fields
    }

    /// One of ours: without a line break, which would begin another field.
    fn put(&mut self, key: &str, value: impl Display) -> &mut Self {
        // A `String` takes everything.
        let _ = writeln!(self.0, "MONITOR_{key}={}", printable(&value.to_string()));
        self
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) -> &mut Self {
        if let Some(value) = value {
            self.put(key, value);
        }
        self
    }

    fn each(&mut self, key: &str, values: &[impl Display]) -> &mut Self {
        for value in values {
            self.put(key, value);
        }
        self
    }

    fn chosen(&mut self, victims: &[Chosen]) -> &mut Self {
        for victim in victims {
            self.put("WORKER", victim.worker).maybe("NAME", victim.name.as_ref());
        }
        self
    }

    fn kill(&mut self, record: &KillRecord) -> &mut Self {
        let by = match record.by {
            KilledBy::Monitor => "monitor",
            KilledBy::Kernel => "kernel",
        };
        self.put("KILL", record.id).put("KILLED_BY", by).put("DOMAIN", &record.domain);
        self.put("USED", record.used.0).put("THRESHOLD", record.threshold.0).put("DRY_RUN", record.dry_run);
        self.put("CONFIRMED", record.confirmed);
        for VictimRecord { worker, pid, uid, name, owner, rule, .. } in &record.victims {
            self.put("WORKER", worker).put("PID", pid).maybe("UID", *uid);
            self.maybe("NAME", name.as_ref()).maybe("OWNER", owner.as_ref()).maybe("RULE", rule.as_ref());
        }
        self
    }

    /// Whose it was for systemd: `journalctl --unit` of that unit shows the line too, if root said it.
    fn place(&mut self, cgroup: &str) {
        self.put("CGROUP", cgroup);
        let (unit, user_unit) = units(cgroup);
        for (key, value) in
            [("UNIT", unit), ("OBJECT_SYSTEMD_UNIT", unit), ("OBJECT_SYSTEMD_USER_UNIT", user_unit)]
        {
            if let Some(value) = value {
                let _ = writeln!(self.0, "{key}={}", printable(value));
            }
        }
    }
}

/// The unit that a cgroup belongs to, and within a user's manager the user's unit: each the first that is no slice.
fn units(cgroup: &str) -> (Option<&str>, Option<&str>) {
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let mut parts = cgroup.split('/').filter(|part| !part.is_empty() && !part.ends_with(".slice"));
    let unit = parts.next().filter(is_unit);
    let of_user = unit.filter(|unit| unit.starts_with("user@")).and_then(|_| parts.next()).filter(is_unit);
    (unit, of_user)
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn a_kill_has_what_one_selects_by_and_a_name_begins_no_field() {
        let mut record = record();
        record.victims[0].name = Some("a\nMONITOR_KILL=9".to_owned());
        insta::assert_snapshot!(of(&Note::Killed(Box::new(record)), Some("/system.slice/job.service")), @r"
        MESSAGE_ID=6c71a0c10a2149299f29759f561eeda5
        MONITOR_NOTE=killed
        MONITOR_KILL=7
        MONITOR_KILLED_BY=monitor
        MONITOR_DOMAIN=cgroup:/box
        MONITOR_USED=960
        MONITOR_THRESHOLD=950
        MONITOR_DRY_RUN=false
        MONITOR_CONFIRMED=true
        MONITOR_WORKER=w2
        MONITOR_PID=42
        MONITOR_UID=1000
        MONITOR_NAME=a\nMONITOR_KILL=9
        MONITOR_OWNER=a
        MONITOR_CGROUP=/system.slice/job.service
        UNIT=job.service
        OBJECT_SYSTEMD_UNIT=job.service
        ");
    }

    #[test]
    fn the_unit_is_the_first_part_that_is_no_slice() {
        for (cgroup, unit, of_user) in [
            ("/system.slice/job.service", Some("job.service"), None),
            ("/system.slice/job.service/inner.service", Some("job.service"), None),
            ("/user.slice/user-7.slice/session-3.scope", Some("session-3.scope"), None),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice/my.service",
                Some("user@7.service"),
                Some("my.service"),
            ),
            ("/slurm/uid_0/job.service", None, None),
            ("/", None, None),
        ] {
            assert_eq!(units(cgroup), (unit, of_user), "{cgroup}");
        }
    }
}
