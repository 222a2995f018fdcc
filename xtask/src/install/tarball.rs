//! The tarball, installed and removed by the very commands of docs/installing.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{CONFIGURATION, copy, ours, paths};
use crate::command::{output, step};
use crate::dist::{PACKAGE, VERSION};

/// Says how to install and remove.
const PAGE: &str = "docs/installing.md";

/// Unpacks the tarball, which has this name, into a system and removes it again.
pub(super) fn check(cache: &Path, system: &Path, tarball: &Path, name: &str) -> Result<()> {
    step("Unpacking the tarball and removing it");
    let (_work, root) = copy(cache, system)?;
    let before = paths(&root)?;
    fs::copy(tarball, root.join(format!("{name}.tar.gz"))).context("the tarball")?;
    let page = fs::read_to_string(PAGE).context(PAGE)?;
    for part in ["install the tarball", "remove the tarball"] {
        let script = commands(&page, part).with_context(|| format!("{PAGE} has no commands to {part}"))?;
        let mut shell = Command::new("chroot");
        shell.arg(&root).args(["/bin/sh", "-ec", &script]).env("VERSION", VERSION);
        output(shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))?;
        if part.starts_with("install") {
            let said = output(Command::new("chroot").arg(&root).args(["/usr/bin/monitor", "--version"]))?;
            if !said.contains(VERSION) || !root.join(&CONFIGURATION[1..]).is_file() {
                bail!("unpacked, the tarball is not installed: {said:?}");
            }
        }
    }
    let left = ours(&before, &root)?;
    if left != [format!("/{name}.tar.gz")] {
        bail!("removed, the tarball leaves {}", left.join(", "));
    }
    println!("{PACKAGE} as a tarball: unpacked and removed");
    Ok(())
}

/// The shell commands of a page that stand below this comment. Those that a running system is needed for are left out.
fn commands(page: &str, part: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("# {part}\n"))?;
    let lines = rest.lines().take_while(|line| !line.starts_with("```"));
    Some(lines.filter(|line| !line.starts_with("systemctl ")).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn the_commands_of_a_part_end_with_its_block() {
        let page = "```sh\n# one\nmkdir a\nsystemctl stop a\ncp a b\n```\n```sh\n# two\nrm a\n```\n";
        assert_eq!(commands(page, "one").as_deref(), Some("mkdir a\ncp a b\n"));
        assert_eq!(commands(page, "two").as_deref(), Some("rm a\n"));
        assert_eq!(commands(page, "three"), None);
    }
}
