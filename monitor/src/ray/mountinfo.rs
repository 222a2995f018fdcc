//! What /proc/PID/mountinfo says of mounts: whether what is mounted at a path spreads to other mount namespaces, where nothing of
//! ours may be mounted then, and where a mount comes from. Pure.

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

/// The file system of the mount with this id, and its source.
pub(super) fn source<'a>(mountinfo: &'a str, id: &str) -> Option<(&'a str, &'a str)> {
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(id))?;
    // Neither a path nor an option has a space.
    let (_, about) = line.split_once(" - ")?;
    let mut fields = about.split(' ');
    Some((fields.next()?, fields.next()?))
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

    #[test]
    fn a_file_of_ours_is_told_from_another_one_in_memory_by_its_source() {
        let text = format!(
            "{TEXT}70 21 0:40 /9-1-usage//deleted /proc/meminfo rw,nosuid - tmpfs monitor-ray rw,size=1024k\n\
             71 21 0:41 /x /proc/uptime rw shared:7 - tmpfs tmpfs rw\n"
        );
        assert_eq!(source(&text, "70"), Some(("tmpfs", "monitor-ray")));
        assert_eq!(source(&text, "71"), Some(("tmpfs", "tmpfs")));
        assert_eq!(source(&text, "20"), Some(("ext4", "/dev/sda")));
        assert_eq!((source(&text, "72"), source("", "1")), (None, None));
    }
}
