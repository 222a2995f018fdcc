//! The agent's mode, beside the settings that it sums up, and Ray's own switch.

use super::super::values::AgentMode;
use super::*;

#[test]
fn a_mode_is_what_dry_run_and_refresh_ms_say_and_the_stronger_source_counts() {
    let of = |variables: &[(&str, &str)], text: &str| {
        let found = resolve_with(&ConfigFlags::default(), variables, Some(&file(text)));
        found.map(|found| (found.config.mode, found.config.dry_run, found.config.refresh.is_none()))
    };
    let (enforce, observe, off) = (AgentMode::Enforce, AgentMode::Observe, AgentMode::Off);
    for (text, expected) in [
        ("", (enforce, false, false)),
        ("mode = \"observe\"", (observe, true, false)),
        ("mode = \"off\"", (off, false, true)),
        ("dry_run = true", (observe, true, false)),
        ("refresh_ms = 0", (off, false, true)),
        ("mode = \"off\"\nrefresh_ms = 100\ndry_run = true", (off, true, true)),
        ("mode = \"observe\"\ndry_run = true", (observe, true, false)),
    ] {
        assert_eq!(of(&[], text).unwrap(), expected, "{text}");
    }
    let mode = |mode| [("MONITOR_MODE", mode)];
    assert_eq!(of(&mode("enforce"), "dry_run = true\nrefresh_ms = 0").unwrap(), (enforce, false, false));
    assert_eq!(of(&[("MONITOR_DRY_RUN", "1")], "mode = \"enforce\"").unwrap(), (observe, true, false));
    assert_eq!(of(&[("MONITOR_REFRESH_MS", "0")], "mode = \"observe\"").unwrap(), (off, true, true));
    // An interval is no opposite of off, whoever gives it.
    assert_eq!(
        of(&[("RAY_memory_monitor_refresh_ms", "100")], "mode = \"off\"").unwrap(),
        (off, false, true)
    );
    let both = [("MONITOR_MODE", "enforce"), ("RAY_memory_monitor_refresh_ms", "0")];
    let found = resolve_with(&ConfigFlags::default(), &both[..1], Some(&file("refresh_ms = 0"))).unwrap();
    assert_eq!(effective(&found, "refresh_ms").text, "250");
    assert!(
        of(&both, "refresh_ms = 100").unwrap_err().to_string().contains("contradicts"),
        "of the same strength"
    );
    for text in ["mode = \"enforce\"\ndry_run = true", "mode = \"observe\"\nrefresh_ms = 0"] {
        let said = of(&[], text).unwrap_err().to_string();
        assert!(said.contains("test.toml:1: mode: ") && said.contains(" contradicts "), "{said}");
        assert_eq!(check(&file(text)).unwrap_err().to_string(), said);
    }
}

#[test]
fn rays_own_switch_leaves_what_the_file_says() {
    let refresh = |text: &str| {
        let variables = [("RAY_memory_monitor_refresh_ms", "0")];
        let found = resolve_with(&ConfigFlags::default(), &variables, Some(&file(text))).unwrap();
        assert!(effective(&found, "refresh_ms").note.as_ref().unwrap().contains("Ray's own monitor"));
        effective(&found, "refresh_ms").text.clone()
    };
    assert_eq!(refresh("presets = [\"ray\"]"), "250");
    assert_eq!(refresh("presets = [\"ray\"]\nrefresh_ms = 100"), "100");
    assert_eq!(refresh("presets = [\"ray\"]\nrefresh_ms = 0"), "off", "its operator said so");
}

#[test]
fn rays_switches_are_understood_as_python_writes_them() {
    let config = from_variable("RAY_count_swap_in_memory_monitor", "True").unwrap().config;
    assert!(config.count_swap);
}
