//! `cargo xtask chart`: lints the Helm chart, renders it for several ways to install it, holds that against the schemas
//! of Kubernetes, and compares the plain manifests and the alerts of the repository. No cluster, no Helm.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{output, step};
use crate::python::{self, Tool};

/// The chart.
pub(crate) const CHART: &str = "deploy/helm/monitor";
/// What it renders as it is.
pub(crate) const MANIFESTS: &str = "deploy/kubernetes/monitor.yaml";
/// The alerts, and the chart's copy of them: Helm reads nothing outside of a chart.
const ALERTS: &str = "deploy/prometheus/alerts.yml";
const ALERTS_OF_CHART: &str = "deploy/helm/monitor/alerts.yml";
/// Helm as a library for Python, and Kubernetes' schemas. For checks only.
const PYTHON: Tool =
    Tool { program: "python", packages: &["helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0"] };
const SCRIPT: &str = include_str!("chart.py");
/// The ways to install it: as it is, and with everything that has a switch.
const CASES: [&str; 5] = [
    "{}",
    r#"{"settings": {"dry_run": false, "refresh_ms": 100, "usage_threshold": 0.9}, "metrics": {"enabled": true}}"#,
    r#"{"metrics": {"enabled": true, "serviceMonitor": {"enabled": true, "labels": {"release": "p"}}, "alerts": {"enabled": true}}, "rules": {"10-a.toml": "[[rule]]\nname = \"a\"\n"}, "imagePullSecrets": [{"name": "s"}], "seccompProfile": "Unconfined", "resources": {"limits": {"memory": "256Mi"}}}"#,
    r#"{"metrics": {"enabled": true, "address": "[::]"}}"#,
    r#"{"settings": {"dry_run": false, "presets": ["ray"], "rules_mode": "enforce"}, "ray": {"enabled": true}}"#,
];

/// It needs the node's pid namespace and folders, which the stricter levels forbid.
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: monitor\n  labels:\n    \
                         pod-security.kubernetes.io/enforce: privileged\n";

/// What the user typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the plain manifests and the chart's copy of the alerts anew
    #[arg(long)]
    write: bool,
}

impl Options {
    /// Nothing is written.
    pub(crate) fn check() -> Self {
        Self { write: false }
    }
}

/// Whether the tools are here.
pub(crate) fn available() -> bool {
    python::is_installed(&PYTHON)
}

/// Checks all of it, or writes the manifests.
pub(crate) fn run_chart(options: &Options) -> Result<()> {
    let python = python::program(&PYTHON)?;
    check_version(&fs::read_to_string(Path::new(CHART).join("Chart.yaml")).context("Chart.yaml")?)?;
    if options.write {
        fs::copy(ALERTS, ALERTS_OF_CHART).context(ALERTS_OF_CHART)?;
    }
    step("Linting and rendering the chart");
    let rendered = output(Command::new(python).args(["-B", "-c", SCRIPT, CHART, ALERTS]).args(CASES))
        .context("the chart")?;
    let manifests = format!(
        "# Rendered from {CHART} by `cargo xtask chart --write`: do not edit.\n---\n\
         {NAMESPACE}---\n{rendered}\n"
    );
    if options.write {
        if let Some(folder) = Path::new(MANIFESTS).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(MANIFESTS, manifests).context(MANIFESTS)?;
        step(&format!("Wrote {MANIFESTS}"));
        return Ok(());
    }
    if fs::read_to_string(MANIFESTS).context(MANIFESTS)? != manifests {
        bail!("{MANIFESTS} is not what the chart renders: run `cargo xtask chart --write`");
    }
    Ok(())
}

/// Writes what the chart renders as it is, as a JSON array: for who has no parser of YAML.
pub(crate) fn manifests_as_json(to: &Path) -> Result<()> {
    const SCRIPT: &str = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), open(sys.argv[2], 'w'))";
    let mut python = Command::new(python::program(&PYTHON)?);
    output(python.args(["-B", "-c", SCRIPT, MANIFESTS]).arg(to)).context(MANIFESTS).map(drop)
}

/// Chart and agent are released together.
pub(crate) fn check_version(chart: &str) -> Result<()> {
    let of = |key: &str| {
        chart.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().trim_matches('"'))
    };
    for key in ["version:", "appVersion:"] {
        if of(key) != Some(env!("CARGO_PKG_VERSION")) {
            bail!("{CHART}/Chart.yaml has {key} {:?}, and Cargo.toml {}", of(key), env!("CARGO_PKG_VERSION"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn a_chart_of_another_version_is_refused() {
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            check_version(&format!("name: monitor\nversion: {version}\nappVersion: \"{version}\"\n")).is_ok()
        );
        let error = check_version(&format!("version: {version}\nappVersion: \"0.0.0\"\n")).unwrap_err();
        assert!(error.to_string().contains("appVersion"), "{error}");
    }
}
