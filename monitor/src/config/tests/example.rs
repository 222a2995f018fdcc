//! `examples/monitor.toml` is written from the table; here it is kept equal to it.

use super::*;

const WIDTH: usize = 100;

#[test]
fn the_example_file_shows_every_setting_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/monitor.toml");
    let expected = example();
    if std::env::var_os("UPDATE_EXAMPLE").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert!(found == expected, "{path} is not what the table says: run this test with UPDATE_EXAMPLE=1");

    let uncommented = file(&found.lines().map(uncomment).collect::<Vec<_>>().join("\n"));
    assert_eq!(check(&uncommented).unwrap().0, SETTINGS.len());
    let resolved = resolve_with(&ConfigFlags::default(), &[], Some(&uncommented)).unwrap();
    assert_eq!(resolved.config, Config::defaults(0, None));
}

/// Prose begins with `# `, a setting with `#` alone.
fn uncomment(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
}

fn example() -> String {
    let mut text = wrapped(
        "Settings of the monitor with their defaults. Copy to /etc/monitor/monitor.toml, or name the file with \
         --config or MONITOR_CONFIG, and remove the # from the lines that you change. Check with: monitor config check FILE",
    );
    let defaults = Config::defaults(0, None);
    for setting in SETTINGS {
        let json = setting.field.json(&defaults);
        let value =
            if json.is_null() { format!("{:?}", setting.field.text(&defaults)) } else { json.to_string() };
        let names: Vec<_> =
            std::iter::once(setting.env).chain(setting.ray.iter().map(|ray| ray.name)).collect();
        text += "\n";
        text += &wrapped(setting.doc);
        text += &wrapped(&format!("Allowed: {}.", setting.range()));
        text += &wrapped(&format!("Environment: {}.", names.join(", ")));
        text += &format!("#{} = {value}\n", setting.key);
    }
    text
}

/// As comment lines of at most [`WIDTH`] characters.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            lines += &line;
            lines += "\n";
            line = String::from("#");
        }
        line += " ";
        line += word;
    }
    lines + &line + "\n"
}
