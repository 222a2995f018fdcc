//! What runs here that nothing guards, and which presets would. Each preset is tried by itself, so that one does not hide what
//! another would find.

use std::collections::HashSet;

use super::Rules;
use super::facts::Machine;
use super::presets::{PRESETS, Preset, SYSTEM};
use crate::units::Bytes;

/// What one preset would guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guardable {
    /// The preset's name.
    pub preset: &'static str,
    /// How many workers it would make.
    pub workers: usize,
    /// What they hold, shared memory counted more than once.
    pub held: Bytes,
}

/// What all presets would guard, and what is left.
#[derive(Debug, Default)]
pub struct Unguarded {
    /// Each preset that matches something.
    pub presets: Vec<Guardable>,
    /// The processes, by their places in the list, that no preset has and nothing protects.
    pub rest: Vec<usize>,
}

impl Unguarded {
    /// What would guard what runs on this machine.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        let system = PRESETS.iter().find(|preset| preset.name == SYSTEM);
        let mut taken = HashSet::new();
        let mut presets = Vec::new();
        for preset in PRESETS.iter().filter(|preset| preset.name != SYSTEM) {
            let rules = compiled(&[Some(preset), system]);
            let look = rules.look(&machine.profiles(&rules));
            let processes: Vec<usize> =
                look.workers.iter().flat_map(|worker| worker.members.clone()).collect();
            if !look.workers.is_empty() {
                let held = processes.iter().filter_map(|index| machine.processes.get(*index)?.rss);
                let held = held.fold(Bytes(0), Bytes::saturating_add);
                presets.push(Guardable { preset: preset.name, workers: look.workers.len(), held });
            }
            taken.extend(processes);
        }
        let rules = compiled(&[system]);
        let mut rest = rules.look(&machine.profiles(&rules)).unmatched;
        rest.retain(|index| !taken.contains(index));
        Self { presets, rest }
    }

    /// What runs here and what would guard it, in one sentence; `None`: no preset matches anything.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let (last, first) = self.presets.split_last()?;
        let counted = |found: &Guardable| {
            let (one, many) = noun(found.preset);
            format!("{} {}", found.workers, if found.workers == 1 { one } else { many })
        };
        let first: Vec<String> = first.iter().map(counted).collect();
        let all = if first.is_empty() {
            counted(last)
        } else {
            format!("{} and {}", first.join(", "), counted(last))
        };
        let run =
            if self.presets.iter().map(|found| found.workers).sum::<usize>() == 1 { "runs" } else { "run" };
        Some(format!("{all} {run} here: presets = [{}]", self.names()))
    }

    /// The presets' names as a list in TOML has them.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<String> = self.presets.iter().map(|found| format!("{:?}", found.preset)).collect();
        names.join(", ")
    }
}

/// What the workers of a preset are called.
fn noun(preset: &str) -> (&'static str, &'static str) {
    match preset {
        "ray" => ("Ray worker", "Ray workers"),
        "kubernetes" => ("container of a pod", "containers of pods"),
        "containers" => ("container", "containers"),
        "systemd" => ("unit or job of a user", "units and jobs of users"),
        "slurm" => ("Slurm step", "Slurm steps"),
        "dask" => ("Dask worker", "Dask workers"),
        "pytest-xdist" => ("pytest worker", "pytest workers"),
        "jupyter" => ("notebook kernel", "notebook kernels"),
        "joblib" => ("joblib worker", "joblib workers"),
        "multiprocessing" => ("Python pool worker", "Python pool workers"),
        "spark" => ("Spark executor", "Spark executors"),
        "gitlab-runner" => ("GitLab job", "GitLab jobs"),
        "github-runner" => ("GitHub Actions step", "GitHub Actions steps"),
        "buildkite" => ("Buildkite job", "Buildkite jobs"),
        _ => ("worker", "workers"),
    }
}

fn compiled(presets: &[Option<&Preset>]) -> Rules {
    let specs: Vec<_> =
        presets.iter().flatten().flat_map(|preset| preset.rules().unwrap_or_default()).collect();
    // They are tested to compile.
    Rules::compile(&specs, None).unwrap_or_else(|_| Rules::none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_counts_and_names_what_would_guard() {
        let guardable = |preset, workers| Guardable { preset, workers, held: Bytes(0) };
        let of = |presets| Unguarded { presets, rest: Vec::new() }.sentence();
        assert_eq!(of(Vec::new()), None);
        assert_eq!(
            of(vec![guardable("containers", 1)]).unwrap(),
            "1 container runs here: presets = [\"containers\"]"
        );
        assert_eq!(
            of(vec![guardable("ray", 3), guardable("containers", 12)]).unwrap(),
            "3 Ray workers and 12 containers run here: presets = [\"ray\", \"containers\"]"
        );
        for preset in PRESETS.iter().filter(|preset| preset.name != SYSTEM) {
            assert_ne!(noun(preset.name).0, "worker", "{} has a name of its own", preset.name);
        }
    }
}
