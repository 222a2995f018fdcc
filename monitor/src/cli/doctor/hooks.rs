//! What `monitor doctor` says of the kernel's hooks, for people: hooks that lack the same thing share a line, because
//! without a privilege all of them do.

use crate::kernel::probe::{Probe, ProbeState};

/// The lines.
pub(super) fn words(hooks: &[Probe]) -> String {
    let mut out = String::new();
    for (at, hook) in hooks.iter().enumerate() {
        let why = why(hook);
        if hook.state.usable() {
            out.push_str(&format!("[ok] hook {} ({}): {why}\n", hook.name, hook.tracepoint));
            continue;
        }
        let same = |other: &&Probe| !other.state.usable() && self::why(other) == why;
        if hooks[..at].iter().any(|before| same(&before)) {
            continue;
        }
        match hooks.iter().filter(same).collect::<Vec<_>>().as_slice() {
            [_] => {
                out.push_str(&format!("[--] hook {} ({}): {why}\n", hook.name, hook.tracepoint));
                if let Some(without) = &hook.fallback {
                    out.push_str(&format!("     without it: {without}\n"));
                }
            }
            all => {
                out.push_str(&format!("[--] hooks {}: {why}\n", names(all)));
                out.push_str(&fallbacks(all));
            }
        }
    }
    out
}

/// A line for each thing that is different without some of them.
fn fallbacks(hooks: &[&Probe]) -> String {
    let mut out = String::new();
    for (at, hook) in hooks.iter().enumerate() {
        let same = |other: &&&Probe| other.fallback == hook.fallback;
        let Some(without) = &hook.fallback else { continue };
        if !hooks[..at].iter().any(|before| same(&before)) {
            let all: Vec<&Probe> = hooks.iter().filter(same).copied().collect();
            out.push_str(&format!("     without {}: {without}\n", names(&all)));
        }
    }
    out
}

fn names(hooks: &[&Probe]) -> String {
    hooks.iter().map(|hook| &*hook.name).collect::<Vec<_>>().join(", ")
}

fn why(hook: &Probe) -> String {
    match &hook.state {
        ProbeState::Attached | ProbeState::Detached => match hook.counts {
            Some(true) => "attaches; the agent counts usage with it".to_owned(),
            Some(false) => "attaches; in reserve for counting usage".to_owned(),
            None => "attaches".to_owned(),
        },
        ProbeState::Missing(why) => format!("missing: {why}"),
        ProbeState::Denied(why) => format!("denied: {why}"),
        ProbeState::Failed(why) => format!("failed: {why}"),
        ProbeState::Off(why) => format!("off: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::hook::Hook;

    #[test]
    fn hooks_that_lack_the_same_share_a_line() {
        let denied = |hook| Probe::new(hook, ProbeState::Denied("no CAP_BPF".to_owned()));
        let hooks = [
            Probe::new(Hook::RssStat, ProbeState::Attached),
            Probe::new(Hook::Memcg, ProbeState::Missing("this kernel is too old".to_owned())),
            denied(Hook::Exec),
            denied(Hook::Rename),
            denied(Hook::Exit),
        ];
        insta::assert_snapshot!(words(&hooks), @r"
        [ok] hook rss_stat (kmem:rss_stat): attaches; in reserve for counting usage
        [--] hook memcg (memcg:mod_memcg_lruvec_state): missing: this kernel is too old
             without it: rss_stat counts usage; without both it is polled every refresh_ms, without a brake
        [--] hooks exec, rename, exit: denied: no CAP_BPF
             without exec, rename: the agent scans all processes for the rules, about once a second
             without exit: the agent sees deaths only through pidfds, some microseconds later
        ");
    }
}
