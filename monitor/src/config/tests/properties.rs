//! What holds for any sources: the strongest one counts, nothing panics, a value that is shown can be given back.

use proptest::prelude::*;

use super::*;

/// A text or a number of the kinds that people get wrong.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i128>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[0-9.]{0,20} ?[kKmMgGtTpPeE]?i?[bB]?",
        "[a-z_/:.]{0,12}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
    ]
}

proptest! {
    #[test]
    fn the_strongest_source_counts(
        flag: Option<u16>, ours: Option<u16>, rays: Option<u16>, in_file: Option<u16>,
    ) {
        let text = |n: Option<u16>| n.map(|n| n.to_string());
        let mut flags = ConfigFlags::default();
        if let Some(value) = text(flag) {
            flags = flags.with("memory_wait_ms", Given::Text(value.clone().into()));
            flags = flags.with("oom_retries", Given::Text(value.into()));
        }
        let (ours_text, rays_text) = (text(ours), text(rays));
        let mut variables = Vec::new();
        variables.extend(ours_text.as_deref().map(|value| ("MONITOR_OOM_RETRIES", value)));
        variables.extend(rays_text.as_deref().map(|value| ("RAY_task_oom_retries", value)));
        let file = in_file.map(|n| file(&format!("\n\noom_retries = {n}")));
        let resolved = resolve_with(&flags, &variables, file.as_ref()).unwrap();

        let row = effective(&resolved, "oom_retries");
        let expected = [
            (flag, "flag --oom-retries"),
            (ours, "environment MONITOR_OOM_RETRIES"),
            (rays, "environment RAY_task_oom_retries"),
            (in_file, "file test.toml:3"),
        ];
        let winner = expected.iter().find_map(|(value, source)| value.map(|value| (value.to_string(), *source)));
        let (value, source) = winner.unwrap_or(("-1".to_owned(), "default"));
        prop_assert_eq!(&row.text, &value);
        prop_assert_eq!(row.source.to_string(), source);
        prop_assert_eq!(row.note.is_some(), ours.is_some() && rays.is_some() && ours != rays);
        // Another key's flag does not spill over.
        prop_assert_eq!(flag.is_some(), effective(&resolved, "memory_wait_ms").source != Source::Default);
    }

    #[test]
    fn any_text_is_taken_and_shown_so_that_it_can_be_given_back_or_refused_on_one_line(
        index in 0..SETTINGS.len(), value in any_value(),
    ) {
        let setting = &SETTINGS[index];
        let mut config = Config::defaults(0, None);
        match setting.field.set(&mut config, &Given::Text(value.into())) {
            Ok(()) => {
                let mut again = Config::defaults(0, None);
                let shown = setting.field.text(&config);
                setting.field.set(&mut again, &Given::Text(shown.into())).unwrap();
                prop_assert_eq!(again, config);
            }
            Err(refusal) => {
                prop_assert_eq!(config, Config::defaults(0, None));
                prop_assert_eq!(refusal.to_string().lines().count(), 1);
            }
        }
    }

    #[test]
    fn any_file_is_taken_or_refused_with_lines_that_it_has(
        lines in prop::collection::vec(("[a-z_\\[\\]\"'#]{0,18}", any_value()), 0..8),
        known in prop::collection::vec((0..SETTINGS.len(), any_value()), 0..4),
    ) {
        let known = known.iter().map(|(index, value)| format!("{} = {value}", SETTINGS[*index].key));
        let text: Vec<String> = lines.iter().map(|(key, value)| format!("{key}={value}")).chain(known).collect();
        let file = file(&text.join("\n"));
        let last = file.text.split('\n').count();
        if let Err(errors) = check(&file) {
            for error in errors.iter() {
                let message = error.to_string();
                let line: usize = message.split(':').nth(1).unwrap().parse().unwrap();
                prop_assert!((1..=last).contains(&line), "{}", message);
                prop_assert_eq!(message.lines().count(), 1, "{:?}", message);
            }
        }
    }
}

#[test]
fn paths_need_not_be_utf_8_and_everything_else_does() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"/a\xff".to_vec());
    for setting in SETTINGS {
        let mut config = Config::defaults(0, None);
        let taken = setting.field.set(&mut config, &Given::Text(odd.clone()));
        let is_path = ["socket", "journal", "procfs", "cgroupfs", "cgroups", "rules"].contains(&setting.key);
        assert_eq!(taken.is_ok(), is_path, "{}", setting.key);
    }
}
