//! The bill of materials (CycloneDX 1.5): every crate that is linked into the binary, with version, license, and the
//! registry's hash of its source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PACKAGE, VERSION};
use crate::architecture::Architecture;
use crate::command::{cargo, output};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None`: linked; else `dev` or `build`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Writes it to `to`.
pub(super) fn write(architecture: Architecture, to: &Path, epoch: u64) -> Result<()> {
    let metadata = output(cargo().args([
        "metadata",
        "--locked",
        "--format-version=1",
        "--filter-platform",
        architecture.target(),
    ]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    let lock: Lock = toml::from_str(&fs::read_to_string("Cargo.lock")?).context("Cargo.lock")?;
    let at = format!("--date=@{epoch}");
    let time = output(Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", &at]))?;
    let bom = document(&metadata, &lock, &time).context("no package monitor in cargo's metadata")?;
    let text = serde_json::to_string_pretty(&bom)? + "\n";
    fs::write(to, text).with_context(|| to.display().to_string())
}

fn document(metadata: &Metadata, lock: &Lock, time: &str) -> Option<Value> {
    let packages: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let root =
        metadata.packages.iter().find(|package| package.name == "monitor" && package.source.is_none())?;
    let linked = linked(&metadata.resolve.nodes, &root.id);
    let checksums: BTreeMap<(&str, &str), &str> = lock
        .package
        .iter()
        .filter_map(|locked| Some(((&*locked.name, &*locked.version), locked.checksum.as_deref()?)))
        .collect();
    let of = |ids: &BTreeSet<&str>| -> Vec<&Package> {
        let mut found: Vec<&Package> = ids.iter().filter_map(|id| packages.get(id).copied()).collect();
        found.sort_by_key(|package| (&package.name, &package.version));
        found
    };
    let others: BTreeSet<&str> = linked.keys().copied().filter(|id| *id != root.id).collect();
    let components: Vec<Value> = of(&others)
        .into_iter()
        .map(|package| component(package, checksums.get(&(&*package.name, &*package.version)).copied()))
        .collect();
    let edges: Vec<Value> = of(&linked.keys().copied().collect())
        .into_iter()
        .map(|package| {
            let below = linked.get(&*package.id).map(of).unwrap_or_default();
            json!({"ref": reference(package), "dependsOn": below.into_iter().map(reference).collect::<Vec<_>>()})
        })
        .collect();
    Some(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application",
                "bom-ref": reference(root),
                "name": PACKAGE,
                "version": VERSION,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
            },
        },
        "components": components,
        "dependencies": edges,
    }))
}

/// What `root` is linked with, each with what that needs in turn.
fn linked<'a>(nodes: &'a [Node], root: &'a str) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let nodes: BTreeMap<&str, &Node> = nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut found = BTreeMap::new();
    let mut left = vec![root];
    while let Some(id) = left.pop() {
        if found.contains_key(id) {
            continue;
        }
        let is_linked =
            |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let below: BTreeSet<&str> = nodes
            .get(id)
            .map(|node| {
                node.deps.iter().filter(is_linked).map(|dependency| dependency.pkg.as_str()).collect()
            })
            .unwrap_or_default();
        left.extend(&below);
        found.insert(id, below);
    }
    found
}

fn reference(package: &Package) -> String {
    match &package.source {
        Some(_) => format!("pkg:cargo/{}@{}", package.name, package.version),
        // A part of this repository.
        None => format!("{}@{}", package.name, package.version),
    }
}

fn component(package: &Package, checksum: Option<&str>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
    });
    if package.source.is_some() {
        component["purl"] = reference(package).into();
    }
    if let Some(license) = &package.license {
        // Older crates write MIT/Apache-2.0.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_is_listed_with_license_and_hash() {
        let metadata = json!({
            "packages": [
                {"id": "m", "name": "monitor", "version": "1.0.0", "license": null, "source": null},
                {"id": "a", "name": "a", "version": "2.0.0", "license": "MIT/Apache-2.0", "source": "registry"},
                {"id": "t", "name": "t", "version": "3.0.0", "license": "MIT", "source": "registry"},
                {"id": "b", "name": "b", "version": "4.0.0", "license": "MIT", "source": "registry"},
            ],
            "resolve": {"nodes": [
                {"id": "m", "deps": [
                    {"pkg": "a", "dep_kinds": [{"kind": "build"}, {"kind": null}]},
                    {"pkg": "t", "dep_kinds": [{"kind": "dev"}]},
                ]},
                {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]},
                {"id": "b", "deps": []},
                {"id": "t", "deps": []},
            ]},
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let lock = Lock {
            package: vec![Locked { name: "a".into(), version: "2.0.0".into(), checksum: Some("12".into()) }],
        };
        let bom = document(&metadata, &lock, "2026-01-01T00:00:00Z").unwrap();
        let names: Vec<&str> =
            bom["components"].as_array().unwrap().iter().map(|each| each["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(bom["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bom["components"][0]["hashes"][0]["content"], "12");
        assert_eq!(bom["dependencies"][0]["dependsOn"], json!(["pkg:cargo/b@4.0.0"]));
        assert_eq!(bom["dependencies"].as_array().unwrap().len(), 3);
    }
}
