//! The table of settings: one row for each, and the only place that knows a key, its names in the environment,
//! its range, and the field of [`crate::config::Config`] it sets. Flags, file, environment, output and the example
//! file follow it.

use crate::config::form::{
    Absent, Address, Cgroups, Count, FilePath, Fraction, GroupName, HostNames, Millis, OneOf, Or, PATH_MOST,
    Presets, Program, SOCKET_PATH_MOST, Size, SizeOrShare, Switch,
};
use crate::config::setting::{At, RayMeaning, RayName, Setting};

macro_rules! at {
    ($field:ident, $form:expr) => {
        &At { form: $form, get: |config| &config.$field, get_mut: |config| &mut config.$field }
    };
}

const fn same(name: &'static str) -> RayName {
    RayName { name, meaning: RayMeaning::Same }
}

/// A day: longer than any interval that can be meant.
const DAY: u64 = 86_400_000;
/// Ten minutes: longer than anyone should wait for a process to die.
const TEN_MINUTES: u64 = 600_000;

const OFF_AT_0: Absent = Absent { word: "off", number: Some(0) };
const OFF: Absent = Absent { word: "off", number: Some(-1) };
const UNSET: Absent = Absent { word: "unset", number: Some(-1) };
const AUTO: Absent = Absent { word: "auto", number: None };
const NONE: Absent = Absent { word: "none", number: None };
const BY_RULE: Absent = Absent { word: "by_rule", number: None };
const EVERYONE: Absent = Absent { word: "everyone", number: None };

/// Every setting, in the order of help and output: docs/behavior.md#configuration first, then what it leads to.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "refresh_ms",
        flag: "refresh-ms",
        env: "MONITOR_REFRESH_MS",
        ray: &[same("RAY_memory_monitor_refresh_ms")],
        doc: "Check the memory of each domain (memory limit that is watched) at least this often, in milliseconds. 0 \
              turns killing off: the agent only observes and answers.",
        field: at!(refresh, Or(OFF_AT_0, Millis { min: 1, max: DAY })),
    },
    Setting {
        key: "usage_threshold",
        flag: "usage-threshold",
        env: "MONITOR_USAGE_THRESHOLD",
        ray: &[same("RAY_memory_usage_threshold")],
        doc: "Kill a worker when memory use exceeds this fraction of a domain's total.",
        field: at!(usage_threshold, Fraction),
    },
    Setting {
        key: "min_memory_free",
        flag: "min-memory-free",
        env: "MONITOR_MIN_MEMORY_FREE",
        ray: &[same("RAY_min_memory_free_bytes")],
        doc: "Kill nobody while at least this much memory is free, whatever usage_threshold says. In bytes. It is meant \
              for the node: a domain that is not larger than this is guarded by usage_threshold alone.",
        field: at!(min_memory_free, Or(UNSET, Size { min: 0 })),
    },
    Setting {
        key: "oom_retries",
        flag: "oom-retries",
        env: "MONITOR_OOM_RETRIES",
        ray: &[same("RAY_task_oom_retries")],
        doc: "Retry a task at most this many times after kills for memory.",
        field: at!(oom_retries, Count),
    },
    Setting {
        key: "oom_retry_base_ms",
        flag: "oom-retry-base-ms",
        env: "MONITOR_OOM_RETRY_BASE_MS",
        ray: &[same("RAY_task_oom_retry_delay_base_ms")],
        doc: "Wait this long before the first retry after a kill for memory, in milliseconds; each further wait is twice \
              as long, up to 60 s. 0: no wait.",
        // The delay never exceeds 60 s, so that a larger base would be cut without a word.
        field: at!(oom_retry_base, Millis { min: 0, max: 60_000 }),
    },
    Setting {
        key: "crash_retry_base_ms",
        flag: "crash-retry-base-ms",
        env: "MONITOR_CRASH_RETRY_BASE_MS",
        ray: &[],
        doc: "Wait this long before the first retry after a crash, in milliseconds; each further wait is twice as \
              long, up to 60 s. It starts over once an attempt has run for a minute. 0: no wait.",
        field: at!(crash_retry_base, Millis { min: 0, max: 60_000 }),
    },
    Setting {
        key: "admission",
        flag: "admission",
        env: "MONITOR_ADMISSION",
        ray: &[],
        doc: "Which starts wait for room (docs/fewer-kills.md). off: none. retries: retries after a kill for memory, \
              for a minute at most. all: first starts too, if their need was declared or learned.",
        field: at!(admission, OneOf::NEW),
    },
    Setting {
        key: "summary_interval_ms",
        flag: "summary-interval-ms",
        env: "MONITOR_SUMMARY_INTERVAL_MS",
        ray: &[same("RAY_event_stats_print_interval_ms")],
        doc: "Log a summary of kills and crashes this often, in milliseconds, if there were any.",
        field: at!(summary_interval, Or(OFF, Millis { min: 1, max: DAY })),
    },
    Setting {
        key: "policy",
        flag: "policy",
        env: "MONITOR_POLICY",
        ray: &[
            same("RAY_worker_killing_policy"),
            RayName { name: "RAY_worker_killing_policy_by_group", meaning: RayMeaning::PolicyByGroup },
        ],
        doc: "Which worker is killed first (docs/behavior.md#policies). RAY_worker_killing_policy_by_group: true is \
              group_by_owner, false is by_time.",
        field: at!(policy, OneOf::NEW),
    },
    Setting {
        key: "count_swap",
        flag: "count-swap",
        env: "MONITOR_COUNT_SWAP",
        ray: &[same("RAY_count_swap_in_memory_monitor")],
        doc: "Count swap as memory, both in the total and in the usage. Swap that a limit allows but the host does not \
              have is not counted.",
        field: at!(count_swap, Switch),
    },
    Setting {
        key: "owner_tie_break",
        flag: "owner-tie-break",
        env: "MONITOR_OWNER_TIE_BREAK",
        ray: &[],
        doc: "group_by_owner: of two groups of the same size, take the victim from the one that began later (newest) \
              or earlier (oldest).",
        field: at!(owner_tie_break, OneOf::NEW),
    },
    Setting {
        key: "unhelpful_kills",
        flag: "unhelpful-kills",
        env: "MONITOR_UNHELPFUL_KILLS",
        ray: &[],
        doc: "What to do when killing all candidates could not bring the domain below its threshold: kill, skip, or \
              auto, which skips the kill if processes that are not workers hold the memory.",
        field: at!(unhelpful_kills, OneOf::NEW),
    },
    Setting {
        key: "kill_buffer",
        flag: "kill-buffer",
        env: "MONITOR_KILL_BUFFER",
        ray: &[],
        doc: "by_time: free this much below the threshold, in bytes; auto is the smaller of 5% of the total and 3 GiB.",
        field: at!(kill_buffer, Or(AUTO, Size { min: 0 })),
    },
    Setting {
        key: "idle_threshold",
        flag: "idle-threshold",
        env: "MONITOR_IDLE_THRESHOLD",
        ray: &[same("RAY_idle_worker_killing_memory_threshold_bytes")],
        doc: "by_time: an idle worker that never ran anything is a candidate only if it holds at least this much, in bytes.",
        field: at!(idle_threshold, Size { min: 0 }),
    },
    Setting {
        key: "min_victim_memory",
        flag: "min-victim-memory",
        env: "MONITOR_MIN_VICTIM_MEMORY",
        ray: &[],
        doc: "Skip workers that are known to hold less than this while a larger one is left: a size, or a percentage \
              of the memory limit such as 2%. 0 skips none.",
        field: at!(min_victim_memory, SizeOrShare),
    },
    Setting {
        key: "kill_timeout_ms",
        flag: "kill-timeout-ms",
        env: "MONITOR_KILL_TIMEOUT_MS",
        ray: &[],
        doc: "Report a victim as stuck if it is still alive this long after the signal, in milliseconds. The agent may \
              then pick the next victim.",
        field: at!(kill_timeout, Millis { min: 1, max: TEN_MINUTES }),
    },
    Setting {
        key: "watchdog_ms",
        flag: "watchdog-ms",
        env: "MONITOR_WATCHDOG_MS",
        ray: &[],
        doc: "If the agent hangs this long while memory is over the threshold, a backup thread kills in its place, in \
              milliseconds; 0 turns it off.",
        field: at!(watchdog, Or(OFF_AT_0, Millis { min: 1000, max: TEN_MINUTES })),
    },
    Setting {
        key: "memory_wait_ms",
        flag: "memory-wait-ms",
        env: "MONITOR_MEMORY_WAIT_MS",
        ray: &[],
        doc: "Wait at most this long for a dead victim's memory to be free, in milliseconds.",
        field: at!(memory_wait, Millis { min: 0, max: TEN_MINUTES }),
    },
    Setting {
        key: "grace_ms",
        flag: "grace-ms",
        env: "MONITOR_GRACE_MS",
        ray: &[],
        doc: "Send SIGTERM first and SIGKILL this long after it, in milliseconds; 0: SIGKILL at once.",
        field: at!(grace, Millis { min: 0, max: TEN_MINUTES }),
    },
    Setting {
        key: "brake",
        flag: "brake",
        env: "MONITOR_BRAKE",
        ray: &[],
        doc: "Pause a worker that allocates while memory is over the threshold, until the agent has decided \
              (docs/brake.md).",
        field: at!(brake, OneOf::NEW),
    },
    Setting {
        key: "brake_max_ms",
        flag: "brake-max-ms",
        env: "MONITOR_BRAKE_MAX_MS",
        ray: &[],
        doc: "Resume a worker at the latest this long after the brake paused it, in milliseconds.",
        field: at!(brake_max, Millis { min: 1, max: TEN_MINUTES }),
    },
    Setting {
        key: "gear",
        flag: "gear",
        env: "MONITOR_GEAR",
        ray: &[],
        doc: "Track page faults only when a domain comes close to its threshold (auto), or always (near): docs/gears.md.",
        field: at!(gear, OneOf::NEW),
    },
    Setting {
        key: "probe",
        flag: "probe",
        env: "MONITOR_PROBE",
        ray: &[],
        doc: "Which kernel hook counts usage (docs/probes.md): rss_stat is cheap, memcg is exact, poll uses none. auto \
              takes rss_stat (with the brake, memcg), or the other one if the kernel lacks it. charge is the cheapest and \
              sees kernel memory too; if the kernel refuses it, it works as auto without the brake.",
        field: at!(probe, OneOf::NEW),
    },
    Setting {
        key: "node",
        flag: "node",
        env: "MONITOR_NODE",
        ray: &[],
        doc: "Guard the node. If not set, the agent guards the node unless cgroups are named.",
        field: at!(node, Switch),
    },
    Setting {
        key: "cgroups",
        flag: "cgroup",
        env: "MONITOR_CGROUPS",
        ray: &[],
        doc: "Guard these cgroups, and the limited ones inside them, instead of the node. Paths begin at the root of \
              the memory controller's hierarchy. The agent waits for a cgroup that does not exist yet. The flag may be \
              repeated; the variable separates paths by colons before a slash; write \\: for a colon that is part of a \
              name.",
        field: at!(cgroups, Cgroups),
    },
    Setting {
        key: "presets",
        flag: "preset",
        env: "MONITOR_PRESETS",
        ray: &[],
        doc: "Built-in rules, by name: they turn running processes that nothing registers into workers \
              (`monitor rules presets`, docs/rules.md). The flag may be repeated; the variable separates names by \
              commas.",
        field: at!(presets, Presets),
    },
    Setting {
        key: "ray_brake",
        flag: "ray-brake",
        env: "MONITOR_RAY_BRAKE",
        ray: &[],
        doc: "With --preset ray: pause workers at the threshold even if brake is off, because a raylet takes some \
              hundred milliseconds to kill (docs/ray.md).",
        field: at!(ray_brake, OneOf::NEW),
    },
    Setting {
        key: "ray_timeout_ms",
        flag: "ray-timeout-ms",
        env: "MONITOR_RAY_TIMEOUT_MS",
        ray: &[],
        doc: "With --preset ray: kill in a raylet's place if none of its workers died this long after it was asked, in \
              milliseconds (docs/ray.md).",
        field: at!(ray_timeout, Millis { min: 1, max: TEN_MINUTES }),
    },
    Setting {
        key: "rules_mode",
        flag: "rules-mode",
        env: "MONITOR_RULES_MODE",
        ray: &[],
        doc: "Mode of all rules. observe: the agent kills no worker of a rule. enforce: it may kill the workers of all \
              rules, except those of a rule in mode observe. by_rule: each rule sets its own mode; the default is \
              observe.",
        field: at!(rules_mode, Or(BY_RULE, OneOf::NEW)),
    },
    Setting {
        key: "rules",
        flag: "rules",
        env: "MONITOR_RULES",
        ray: &[],
        doc: "Directory with rules files (*.toml) that only root can change. auto: rules.d beside the configuration \
              file, if it exists.",
        field: at!(rules, Or(AUTO, FilePath { most: PATH_MOST })),
    },
    Setting {
        key: "mode",
        flag: "mode",
        env: "MONITOR_MODE",
        ray: &[],
        doc: "enforce: kill workers. observe: decide and report, but kill nobody; the same as dry_run. off: read \
              memory and answer, but decide nothing; the same as refresh_ms = 0. If not set, dry_run and refresh_ms \
              decide.",
        field: at!(mode, OneOf::NEW),
    },
    Setting {
        key: "dry_run",
        flag: "dry-run",
        env: "MONITOR_DRY_RUN",
        ray: &[],
        doc: "Decide and report, but kill nobody.",
        field: at!(dry_run, Switch),
    },
    Setting {
        key: "on_kill",
        flag: "on-kill",
        env: "MONITOR_ON_KILL",
        ray: &[],
        doc: "Run this command after each kill, with the facts as JSON on its standard input and as MONITOR_ \
              variables. No shell is used; only root may be able to change the program. The agent kills it after 10 s.",
        field: at!(on_kill, Or(NONE, Program)),
    },
    Setting {
        key: "on_approach",
        flag: "on-approach",
        env: "MONITOR_ON_APPROACH",
        ray: &[],
        doc: "Run this command, in the same way, when memory use comes near the threshold (approach), at most once a minute \
              for each domain.",
        field: at!(on_approach, Or(NONE, Program)),
    },
    Setting {
        key: "approach",
        flag: "approach",
        env: "MONITOR_APPROACH",
        ray: &[],
        doc: "on_approach: this fraction of the threshold is near.",
        field: at!(approach, Fraction),
    },
    Setting {
        key: "kernel_log",
        flag: "kernel-log",
        env: "MONITOR_KERNEL_LOG",
        ray: &[],
        doc: "For debugging: log each record of the kernel programs, at level debug (MONITOR_LOG=debug).",
        field: at!(kernel_log, Switch),
    },
    Setting {
        key: "log_format",
        flag: "log-format",
        env: "MONITOR_LOG_FORMAT",
        ray: &[],
        doc: "Write the agent's log as sentences for people (human; with fields in systemd's journal), or as one JSON \
              object per line (json).",
        field: at!(log_format, OneOf::NEW),
    },
    Setting {
        key: "socket",
        flag: "socket",
        env: "MONITOR_SOCKET",
        ray: &[],
        doc: "Listen on this control socket. The default for users other than root is monitor/monitor.sock in \
              $XDG_RUNTIME_DIR, or in /run/user/UID if that is not set.",
        field: at!(socket, FilePath { most: SOCKET_PATH_MOST }),
    },
    Setting {
        key: "socket_group",
        flag: "socket-group",
        env: "MONITOR_SOCKET_GROUP",
        ray: &[],
        doc: "Let root and the members of this group connect to the control socket (mode 0660), or everyone (mode 0666). \
              What a caller may do depends on its uid in both cases.",
        field: at!(socket_group, Or(EVERYONE, GroupName)),
    },
    Setting {
        key: "http_listen",
        flag: "http-listen",
        env: "MONITOR_HTTP_LISTEN",
        ray: &[],
        doc: "Serve the live page, /metrics and /api over HTTP at this address, or none (docs/http.md). A port alone \
              means 127.0.0.1. It is read-only; everyone who can reach the address can read counts and sums. If the \
              agent cannot bind it, it guards without HTTP and retries.",
        field: at!(http_listen, Or(NONE, Address)),
    },
    Setting {
        key: "http_details",
        flag: "http-details",
        env: "MONITOR_HTTP_DETAILS",
        ray: &[],
        doc: "Show workers, names, owners and reports over HTTP too, to everyone who can reach the address.",
        field: at!(http_details, Switch),
    },
    Setting {
        key: "http_hosts",
        flag: "http-host",
        env: "MONITOR_HTTP_HOSTS",
        ray: &[],
        doc: "Answer HTTP requests for these host names too, besides IP addresses, localhost and this machine's own name. \
              Others are refused, so that no web page can read the agent through DNS rebinding. The flag \
              may be repeated; the variable separates names by commas.",
        field: at!(http_hosts, HostNames),
    },
    Setting {
        key: "journal",
        flag: "journal",
        env: "MONITOR_JOURNAL",
        ray: &[],
        doc: "Keep every decision in this file (the journal), or none. The default for users other than root is none, \
              because their agents end with the session, and there may be several.",
        field: at!(journal, Or(NONE, FilePath { most: PATH_MOST })),
    },
    Setting {
        key: "journal_max_bytes",
        flag: "journal-max-bytes",
        env: "MONITOR_JOURNAL_MAX_BYTES",
        ray: &[],
        doc: "Keep the journal below this size on disk, in bytes.",
        field: at!(journal_max, Size { min: 64 << 10 }),
    },
    Setting {
        key: "procfs",
        flag: "procfs",
        env: "MONITOR_PROCFS",
        ray: &[],
        doc: "Where procfs is mounted. In a container the host's may be mounted elsewhere.",
        field: at!(procfs, FilePath { most: PATH_MOST }),
    },
    Setting {
        key: "cgroupfs",
        flag: "cgroupfs",
        env: "MONITOR_CGROUPFS",
        ray: &[],
        doc: "Where the cgroup hierarchy is mounted.",
        field: at!(cgroupfs, FilePath { most: PATH_MOST }),
    },
];

/// The setting with this key.
#[must_use]
pub(super) fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
