//! Whether what is mounted at a path spreads to other mount namespaces: then nothing of ours may be mounted there. Pure.

/// Whether the mount that holds `path` (absolute) is shared with others, by the text of /proc/PID/mountinfo. `None`: no
/// mount holds it.
pub(super) fn is_shared(mountinfo: &str, path: &str) -> Option<bool> {
    let holds = |point: &str| {
        point == "/" || path == point || path.strip_prefix(point).is_some_and(|rest| rest.starts_with('/'))
    };
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(4)?;
        let shared =
            fields.skip(1).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"));
        holds(point).then_some((point.len(), shared))
    });
    // Of two at the same place the later one is on top.
    mounts.max_by_key(|(length, _)| *length).map(|(_, shared)| shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n\
        21 20 0:5 / /proc rw shared:2 - proc proc rw\n\
        30 20 0:9 / /sys/fs/cgroup ro master:4 - cgroup2 cgroup rw\n\
        31 20 0:9 / /sys/fs/cgroupx ro shared:9 - cgroup2 cgroup rw\n";

    #[test]
    fn the_innermost_mount_says_it() {
        assert_eq!(is_shared(TEXT, "/sys/fs/cgroup/memory.current"), Some(false));
        assert_eq!(is_shared(TEXT, "/proc/meminfo"), Some(true));
        assert_eq!(is_shared(TEXT, "/sys/fs/other"), Some(true), "the root's");
        assert_eq!(is_shared("", "/x"), None);
        let covered = format!("{TEXT}40 30 0:9 / /proc rw - tmpfs t rw\n");
        assert_eq!(is_shared(&covered, "/proc/meminfo"), Some(false));
    }
}
