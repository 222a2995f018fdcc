//! The rules of docs/behavior.md#configuration: each key's values, the order of the sources, and what errors say.

mod example;
mod mode;
mod properties;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::source::Given;
use super::*;

/// A file at `test.toml`.
fn file(text: &str) -> ConfigFile {
    ConfigFile { path: "test.toml".into(), text: text.to_owned() }
}

/// Resolves for root with these variables.
fn resolve_with(
    flags: &ConfigFlags,
    variables: &[(&str, &str)],
    file: Option<&ConfigFile>,
) -> Result<Resolved, ConfigErrors> {
    let variables: HashMap<String, OsString> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    resolve(flags, &|name| variables.get(name).cloned(), file, 0)
}

fn from_variable(name: &str, value: &str) -> Result<Resolved, ConfigErrors> {
    resolve_with(&ConfigFlags::default(), &[(name, value)], None)
}

fn effective<'a>(resolved: &'a Resolved, key: &str) -> &'a Effective {
    resolved.settings.iter().find(|row| row.setting.key == key).unwrap()
}

/// Key; texts that are taken, with what is shown for them; texts that are refused, with the reason.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

const NOT_WHOLE: &[(&str, &str)] = &[
    ("", "it is empty"),
    ("abc", "\"abc\" is not a whole number"),
    ("1.5", "\"1.5\" is not a whole number"),
    ("NaN", "\"NaN\" is not a whole number"),
    ("inf", "\"inf\" is not a whole number"),
    (" 5", "\" 5\" is not a whole number"),
    ("-2", "-2 is out of range"),
    ("86400001", "86400001 is out of range"),
    (
        "9999999999999999999999999999999999999999",
        "\"9999999999999999999999999999999999999999\" is out of range",
    ),
];
const NOT_A_SIZE: &[(&str, &str)] = &[
    ("", "it is empty"),
    ("abc", "\"abc\" is not a size"),
    ("NaN", "\"NaN\" is not a size"),
    ("inf", "\"inf\" is not a size"),
    ("0.5", "\"0.5\" is not a size"),
    ("0.5B", "\"0.5B\" is not a size"),
    ("-2", "-2 is out of range"),
    ("-1MiB", "\"-1MiB\" is not a size"),
    ("1XB", "\"1XB\" is not a size"),
    ("9223372036854775808", "9223372036854775808 is out of range"),
    ("99999999999EiB", "\"99999999999EiB\" is out of range"),
    (
        "9999999999999999999999999999999999999999",
        "\"9999999999999999999999999999999999999999\" is out of range",
    ),
];
const NOT_A_PROGRAM: &[(&str, &str)] =
    &[("", "it is empty"), ("mail root", "\"mail root\" is not an absolute path with arguments")];

const NOT_A_WORD: &[(&str, &str)] = &[
    ("", "it is empty"),
    ("AUTO", "\"AUTO\" is not one of the allowed words"),
    ("nan", "\"nan\" is not one of the allowed words"),
    ("-1", "\"-1\" is not one of the allowed words"),
];
const NOT_A_SWITCH: &[(&str, &str)] = &[
    ("", "it is empty"),
    ("yes", "\"yes\" is not true or false"),
    ("2", "\"2\" is not true or false"),
    ("-1", "\"-1\" is not true or false"),
];
const SWITCH: &[(&str, &str)] = &[
    ("true", "true"),
    ("True", "true"),
    ("1", "true"),
    ("0", "false"),
    ("false", "false"),
    ("FALSE", "false"),
];
const NOT_A_PATH: &[(&str, &str)] = &[("", "it is empty"), ("a\0b", "\"a\\0b\" is not a path")];

const ROWS: &[Row] = &[
    ("refresh_ms", &[("0", "off"), ("off", "off"), ("1", "1"), ("86400000", "86400000")], NOT_WHOLE),
    ("refresh_ms", &[], &[("-1", "-1 is out of range")]),
    (
        "usage_threshold",
        &[("0", "0.0"), ("-0", "0.0"), ("1", "1.0"), ("0.5", "0.5"), ("5e-1", "0.5"), (".5", "0.5")],
        &[
            ("", "it is empty"),
            ("abc", "\"abc\" is not a number"),
            ("NaN", "NaN is not a number"),
            ("-nan", "NaN is not a number"),
            ("inf", "inf is out of range"),
            ("-infinity", "-inf is out of range"),
            ("-0.1", "-0.1 is out of range"),
            ("1.0000001", "1.0000001 is out of range"),
            ("95", "95 is out of range"),
            ("95%", "\"95%\" is not a number"),
        ],
    ),
    (
        "min_memory_free",
        &[
            ("-1", "unset"),
            ("unset", "unset"),
            ("0", "0"),
            ("512MiB", "536870912"),
            ("512MB", "512000000"),
            ("2G", "2000000000"),
            ("2Gi", "2147483648"),
            ("1.5 GiB", "1610612736"),
            ("9223372036854775807", "9223372036854775807"),
        ],
        NOT_A_SIZE,
    ),
    (
        "oom_retries",
        &[("-1", "-1"), ("0", "0"), ("4294967295", "4294967295")],
        &[
            ("", "it is empty"),
            ("many", "\"many\" is not a whole number"),
            ("nan", "\"nan\" is not a whole number"),
            ("inf", "\"inf\" is not a whole number"),
            ("-2", "-2 is out of range"),
            ("4294967296", "4294967296 is out of range"),
        ],
    ),
    ("oom_retry_base_ms", &[("0", "0"), ("60000", "60000")], NOT_WHOLE),
    ("oom_retry_base_ms", &[], &[("60001", "60001 is out of range")]),
    ("crash_retry_base_ms", &[("0", "0"), ("60000", "60000")], NOT_WHOLE),
    ("crash_retry_base_ms", &[], &[("60001", "60001 is out of range")]),
    ("admission", &[("off", "off"), ("retries", "retries"), ("all", "all")], NOT_A_WORD),
    ("summary_interval_ms", &[("-1", "off"), ("off", "off"), ("1", "1")], NOT_WHOLE),
    ("summary_interval_ms", &[], &[("0", "0 is out of range")]),
    (
        "policy",
        &[
            ("group_by_owner", "group_by_owner"),
            ("retriable_lifo", "retriable_lifo"),
            ("retriable_fifo", "retriable_fifo"),
            ("by_time", "by_time"),
            ("by_memory", "by_memory"),
        ],
        NOT_A_WORD,
    ),
    ("count_swap", SWITCH, NOT_A_SWITCH),
    ("owner_tie_break", &[("newest", "newest"), ("oldest", "oldest")], NOT_A_WORD),
    ("unhelpful_kills", &[("kill", "kill"), ("skip", "skip"), ("auto", "auto")], NOT_A_WORD),
    ("kill_buffer", &[("auto", "auto"), ("0", "0"), ("3GiB", "3221225472")], NOT_A_SIZE),
    ("kill_buffer", &[], &[("-1", "-1 is out of range")]),
    ("idle_threshold", &[("0", "0"), ("1GiB", "1073741824")], NOT_A_SIZE),
    ("min_victim_memory", &[("0", "0"), ("50MiB", "52428800"), ("2.5%", "2.5%")], NOT_A_SIZE),
    ("min_victim_memory", &[], &[("101%", "\"101%\" is out of range")]),
    ("kill_timeout_ms", &[("1", "1"), ("600000", "600000")], NOT_WHOLE),
    ("kill_timeout_ms", &[], &[("0", "0 is out of range")]),
    ("watchdog_ms", &[("0", "off"), ("1000", "1000"), ("600000", "600000")], NOT_WHOLE),
    ("watchdog_ms", &[], &[("999", "999 is out of range")]),
    ("memory_wait_ms", &[("0", "0"), ("600000", "600000")], NOT_WHOLE),
    ("grace_ms", &[("0", "0"), ("600000", "600000")], NOT_WHOLE),
    ("brake", &[("off", "off"), ("on", "on")], NOT_A_WORD),
    ("brake_max_ms", &[("1", "1"), ("600000", "600000")], NOT_WHOLE),
    ("brake_max_ms", &[], &[("0", "0 is out of range")]),
    ("gear", &[("auto", "auto"), ("near", "near")], NOT_A_WORD),
    (
        "probe",
        &[("auto", "auto"), ("memcg", "memcg"), ("rss_stat", "rss_stat"), ("poll", "poll")],
        NOT_A_WORD,
    ),
    ("probe", &[("charge", "charge")], &[("Charge", "\"Charge\" is not one of the allowed words")]),
    ("node", &[("true", "true"), ("1", "true")], NOT_A_SWITCH),
    (
        "cgroups",
        &[
            ("/", "/"),
            ("/box", "/box"),
            ("/a:/b/c", "/a:/b/c"),
            ("/pods.slice:cri:1a:/b", "/pods.slice:cri:1a:/b"),
            ("/a\\:/b", "/a\\:/b"),
            ("/dev-\\x2d.mount:/c\\:", "/dev-\\x2d.mount:/c\\:"),
        ],
        &[
            ("", "it is empty"),
            ("/a:", "it is empty"),
            ("box", "\"box\" is not an absolute path"),
            ("/a/../b", "is not an absolute path without `..`"),
        ],
    ),
    (
        "presets",
        &[("ray", "ray"), ("ray,pytest-xdist", "ray,pytest-xdist")],
        &[("", "it is empty"), ("ray,", "it is empty"), ("rya", "\"rya\" is not a preset")],
    ),
    ("ray_brake", &[("off", "off"), ("on", "on")], NOT_A_WORD),
    ("ray_timeout_ms", &[("1", "1"), ("600000", "600000")], NOT_WHOLE),
    ("ray_timeout_ms", &[], &[("0", "0 is out of range")]),
    ("rules_mode", &[("by_rule", "by_rule"), ("observe", "observe"), ("enforce", "enforce")], NOT_A_WORD),
    ("rules", &[("auto", "auto"), ("/etc/rules", "/etc/rules")], NOT_A_PATH),
    ("mode", &[("enforce", "enforce"), ("observe", "observe"), ("off", "off")], NOT_A_WORD),
    ("dry_run", SWITCH, NOT_A_SWITCH),
    ("kernel_log", SWITCH, NOT_A_SWITCH),
    ("log_format", &[("human", "human"), ("json", "json")], NOT_A_WORD),
    ("on_kill", &[("none", "none"), ("/bin/x  -a", "/bin/x -a")], NOT_A_PROGRAM),
    ("on_approach", &[("/bin/x", "/bin/x")], NOT_A_PROGRAM),
    ("approach", &[("0.9", "0.9"), ("0.5", "0.5")], &[("1.5", "1.5 is out of range")]),
    ("socket", &[("/run/m.sock", "/run/m.sock"), ("m.sock", "m.sock")], NOT_A_PATH),
    (
        "http_listen",
        &[
            ("none", "none"),
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("[::1]:0", "[::1]:0"),
            ("9464", "127.0.0.1:9464"),
        ],
        &[
            ("", "it is empty"),
            ("65536", "\"65536\" is not an address with a port"),
            ("host:1", "is not an address"),
        ],
    ),
    ("http_details", SWITCH, NOT_A_SWITCH),
    (
        "http_hosts",
        &[("node1", "node1"), ("A.example.org,b", "a.example.org,b")],
        &[
            ("", "it is empty"),
            ("a,", "it is empty"),
            ("a b", "\"a b\" is not a host name"),
            ("a:1", "is not a"),
        ],
    ),
    (
        "socket_group",
        &[("everyone", "everyone"), ("ray", "ray"), ("1000", "1000"), ("4294967295", "4294967295")],
        &[("", "it is empty"), ("a b", "\"a b\" is not a group's name or number"), ("-1", "\"-1\" is not")],
    ),
    ("socket_group", &[], &[("4294967296", "is not a group's name or number")]),
    ("journal", &[("none", "none"), ("./none", "./none"), ("/var/j", "/var/j")], NOT_A_PATH),
    ("journal_max_bytes", &[("65536", "65536"), ("1MiB", "1048576")], NOT_A_SIZE),
    ("journal_max_bytes", &[], &[("65535", "65535 is out of range")]),
    ("procfs", &[("/host/proc", "/host/proc")], NOT_A_PATH),
    ("cgroupfs", &[("/host/cgroup", "/host/cgroup")], NOT_A_PATH),
];

#[test]
fn each_key_takes_its_range_and_refuses_the_rest_with_key_source_and_range() {
    for (key, good, bad) in ROWS {
        let setting = table::by_key(key).unwrap();
        for (given, shown) in *good {
            let resolved =
                from_variable(setting.env, given).unwrap_or_else(|e| panic!("{key} {given:?}: {e}"));
            let row = effective(&resolved, key);
            assert_eq!(row.text, *shown, "{key} from {given:?}");
            assert_eq!(row.source, Source::Environment(setting.env));
        }
        for (given, reason) in *bad {
            // A variable that is set to nothing is not set; a flag says what it says.
            let (result, place) = if given.is_empty() {
                let flags = ConfigFlags::default().with(key, Given::Text(OsString::new()));
                (resolve_with(&flags, &[], None), format!("flag --{}: {key}: ", setting.flag))
            } else {
                (from_variable(setting.env, given), format!("environment {}: {key}: ", setting.env))
            };
            let Err(errors) = result else { panic!("{key} took {given:?}") };
            let message = errors.to_string();
            assert!(message.starts_with(&place), "{message}");
            assert!(message.contains(reason), "{key} {given:?}: {message}");
            assert!(message.ends_with(&format!("; allowed: {}", setting.range())), "{message}");
        }
    }
}

#[test]
fn every_setting_is_in_the_table_above_and_named_by_one_rule() {
    for setting in SETTINGS {
        let key = setting.key;
        assert!(
            ROWS.iter().any(|(row, good, bad)| *row == key && !good.is_empty() && !bad.is_empty()),
            "{key}"
        );
        assert_eq!(setting.env, format!("MONITOR_{}", key.to_uppercase()));
        // A flag that may be repeated names one of them (docs/behavior.md#interfaces).
        let flag = match key {
            "cgroups" | "presets" | "http_hosts" => key.trim_end_matches('s').replace('_', "-"),
            key => key.replace('_', "-"),
        };
        assert_eq!(setting.flag, flag);
        assert_eq!(SETTINGS.iter().filter(|other| other.key == key).count(), 1, "{key}");
    }
}

#[test]
fn the_defaults_are_those_of_spec_9() {
    let resolved = resolve_with(&ConfigFlags::default(), &[], None).unwrap();
    assert_eq!(resolved.config, Config::defaults(0, None));
    for (key, json) in [
        ("refresh_ms", serde_json::json!(250)),
        ("usage_threshold", serde_json::json!(0.95)),
        ("min_memory_free", serde_json::json!(null)),
        ("oom_retries", serde_json::json!(-1)),
        ("oom_retry_base_ms", serde_json::json!(1000)),
        ("summary_interval_ms", serde_json::json!(60000)),
        ("policy", serde_json::json!("group_by_owner")),
        ("count_swap", serde_json::json!(false)),
    ] {
        assert_eq!(effective(&resolved, key).json, json, "{key}");
        assert_eq!(effective(&resolved, key).source, Source::Default);
    }
}

#[test]
fn what_is_not_root_keeps_its_socket_in_its_runtime_directory_and_no_journal() {
    for (runtime_dir, socket) in [
        (Some("/run/user/7"), "/run/user/7/monitor/monitor.sock"),
        (Some("relative"), "/run/user/1000/monitor/monitor.sock"),
        (Some(""), "/run/user/1000/monitor/monitor.sock"),
        (None, "/run/user/1000/monitor/monitor.sock"),
    ] {
        let env = |name: &str| runtime_dir.filter(|_| name == "XDG_RUNTIME_DIR").map(OsString::from);
        let config = resolve(&ConfigFlags::default(), &env, None, 1000).unwrap().config;
        assert_eq!(config.socket, PathBuf::from(socket));
        assert_eq!(config.journal, None);
    }
    let too_long = format!("/{}", "x".repeat(form::SOCKET_PATH_MOST));
    assert!(from_variable("MONITOR_SOCKET", &too_long).is_err());
}

#[test]
fn rays_names_of_the_policy_are_understood() {
    for (name, given, policy) in [
        ("RAY_worker_killing_policy", "retriable_fifo", PolicyName::RetriableFifo),
        ("RAY_worker_killing_policy_by_group", "true", PolicyName::GroupByOwner),
        ("RAY_worker_killing_policy_by_group", "1", PolicyName::GroupByOwner),
        ("RAY_worker_killing_policy_by_group", "false", PolicyName::ByTime),
        ("RAY_worker_killing_policy_by_group", "0", PolicyName::ByTime),
        ("RAY_worker_killing_policy_by_group", "True", PolicyName::GroupByOwner),
        ("RAY_worker_killing_policy_by_group", "False", PolicyName::ByTime),
    ] {
        assert_eq!(from_variable(name, given).unwrap().config.policy, policy, "{name}={given}");
    }
    let message = from_variable("RAY_worker_killing_policy_by_group", "maybe").unwrap_err().to_string();
    assert!(message.contains("RAY_worker_killing_policy_by_group: policy: \"maybe\""), "{message}");
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    for setting in SETTINGS {
        for name in setting.ray.iter().map(|ray| ray.name).chain([setting.env]) {
            let resolved = from_variable(name, "").unwrap();
            assert_eq!(effective(&resolved, setting.key).source, Source::Default, "{name}");
        }
    }
    let variables = [("MONITOR_REFRESH_MS", ""), ("RAY_memory_monitor_refresh_ms", "7")];
    let resolved = resolve_with(&ConfigFlags::default(), &variables, None).unwrap();
    assert_eq!(effective(&resolved, "refresh_ms").text, "7", "the weaker one counts");
}

#[test]
fn paths_in_a_variable_may_have_colons() {
    let paths = |value| from_variable("MONITOR_CGROUPS", value).unwrap().config.cgroups;
    assert_eq!(paths("/a:/b"), [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(paths("/p:cri:1:/b"), [PathBuf::from("/p:cri:1"), PathBuf::from("/b")]);
    assert_eq!(paths(r"/a\:/b"), [PathBuf::from("/a:/b")]);
    assert_eq!(paths(r"/a\\:/b"), [PathBuf::from(r"/a\"), PathBuf::from("/b")]);
    assert_eq!(paths(r"/d\x2d1"), [PathBuf::from(r"/d\x2d1")]);
    assert!(from_variable("MONITOR_CGROUPS", "/a:b/../c").is_err());
}

#[test]
fn variables_that_disagree_are_noted_and_those_that_agree_are_not() {
    let note = |ours, rays| {
        let variables = [("MONITOR_REFRESH_MS", ours), ("RAY_memory_monitor_refresh_ms", rays)];
        let resolved = resolve_with(&ConfigFlags::default(), &variables, None).unwrap();
        assert_eq!(effective(&resolved, "refresh_ms").text, "5");
        effective(&resolved, "refresh_ms").note.clone()
    };
    assert_eq!(note("5", "5"), None);
    assert_eq!(
        note("5", "6").as_deref(),
        Some("MONITOR_REFRESH_MS counts before RAY_memory_monitor_refresh_ms, which says 6")
    );
}

#[test]
fn cgroups_take_the_place_of_the_node_unless_it_is_asked_for() {
    let cgroups = ("MONITOR_CGROUPS", "/box");
    let none = ConfigFlags::default();
    assert!(!resolve_with(&none, &[cgroups], None).unwrap().config.node);
    assert!(resolve_with(&none, &[cgroups, ("MONITOR_NODE", "true")], None).unwrap().config.node);
    let message = resolve_with(&none, &[("MONITOR_NODE", "false")], None).unwrap_err().to_string();
    assert!(message.starts_with("environment MONITOR_NODE: node: false leaves nothing"), "{message}");
    let variables = [("MONITOR_NODE", "false"), ("MONITOR_CGROUPS", "box")];
    assert_eq!(resolve_with(&none, &variables, None).unwrap_err().iter().count(), 1);
}

#[test]
fn all_errors_are_listed_also_those_of_overridden_sources() {
    let flags = ConfigFlags::default().with("refresh_ms", Given::Text("x".into()));
    let variables =
        [("MONITOR_REFRESH_MS", "y"), ("RAY_memory_monitor_refresh_ms", "z"), ("MONITOR_GEAR", "far")];
    let file = file("gear = 1\nrefresh_ms = -5\nnonsense = 1\n");
    let errors = resolve_with(&flags, &variables, Some(&file)).unwrap_err();
    let places: Vec<String> =
        errors.iter().map(|e| e.to_string().split(": ").take(2).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(
        places,
        [
            "test.toml:1: gear",
            "test.toml:2: refresh_ms",
            "test.toml:3: nonsense",
            "environment RAY_memory_monitor_refresh_ms: refresh_ms",
            "environment MONITOR_REFRESH_MS: refresh_ms",
            "flag --refresh-ms: refresh_ms",
            "environment MONITOR_GEAR: gear",
        ]
    );
}

#[test]
fn a_file_has_types_and_each_fault_has_its_line() {
    for (text, expected) in [
        ("refresh_ms = \"5\"", "1: refresh_ms: expected an integer, found a string"),
        ("\r\n\r\nrefresh_ms = 1.0", "3: refresh_ms: expected an integer, found a float"),
        ("usage_threshold = \"1\"", "1: usage_threshold: expected a number, found a string"),
        ("usage_threshold = nan", "1: usage_threshold: NaN is not a number"),
        ("usage_threshold = -inf", "1: usage_threshold: -inf is out of range"),
        ("usage_threshold = 2", "1: usage_threshold: 2 is out of range"),
        ("count_swap = 1", "1: count_swap: expected a boolean, found an integer"),
        ("policy = true", "1: policy: expected a string, found a boolean"),
        ("policy = \"\"", "1: policy: it is empty"),
        ("procfs = [\"/\"]", "1: procfs: expected a string, found an array of strings"),
        ("cgroups = \"/a\"", "1: cgroups: expected an array of strings, found a string"),
        (
            "cgroups = [\n\"/a\", 1]",
            "1: cgroups: expected an array of strings, found an array of other things",
        ),
        ("grace_ms = {}", "1: grace_ms: expected an integer, found a table"),
        ("[grace_ms]", "1: grace_ms: expected an integer, found a table"),
        ("procfs = 1979-05-27", "1: procfs: expected a string, found a date"),
        ("idle_threshold = 99999999999999999999999999999999999999999", "is out of range"),
        ("# x\nrefresh_ms = 1\nrefresh_ms = 2\n", "3: refresh_ms: duplicate key"),
        ("\nusage_treshold = 1", "2: usage_treshold: unknown key; did you mean usage_threshold?"),
        ("xyzzy = 1", "1: xyzzy: unknown key"),
        ("a.b = 1", "1: a: unknown key"),
        ("policy = \"by_time", "1: policy: invalid basic string"),
        ("brake = on", "1: brake: string values must be quoted"),
    ] {
        let Err(errors) = check(&file(text)) else { panic!("{text:?} was taken") };
        let message = errors.to_string();
        assert!(message.starts_with("test.toml:") && message.contains(expected), "{text:?}: {message}");
        assert_eq!(errors.iter().count(), 1, "{message}");
    }
}

#[test]
fn a_good_file_gives_its_values_with_their_lines() {
    let file = file(
        "# comment\nmin_memory_free = \"512MiB\"\nusage_threshold = 1\ncgroups = [\"/a\", \"/b\"]\n\
         summary_interval_ms = -1\noom_retries = 0x10\njournal = \"none\"\n",
    );
    assert_eq!(check(&file).unwrap().0, 6);
    let resolved = resolve_with(&ConfigFlags::default(), &[], Some(&file)).unwrap();
    assert_eq!(resolved.config.min_memory_free, Some(Bytes(512 << 20)));
    assert_eq!(resolved.config.cgroups, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(resolved.config.summary_interval, None);
    assert_eq!(resolved.config.oom_retries, Times::AtMost(16));
    assert_eq!(resolved.config.journal, None);
    assert_eq!(effective(&resolved, "usage_threshold").source.to_string(), "file test.toml:3");
}
