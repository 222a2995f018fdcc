//! The pages in a real browser: the live page shows a real kill without being loaded again, and its report can be read on
//! a screen, a phone, in the dark and in print. Screenshots are left in `target/pages`.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use monitor_tests::agent::Agent;
use monitor_tests::cgroup::Sandbox;
use monitor_tests::hog::Hog;
use monitor_tests::process::die_with_parent;
use monitor_tests::skip::Lacks;
use monitor_tests::tools::{in_cache, in_path};
use monitor_tests::{sandbox, skip, worker};

/// A worker's name that would be a script on a page that does not mind.
const HOSTILE: &str = "<script>alert(1)</script>";

/// `monitor run` of a hog that is alone with its owner; `rate` in MiB a second.
fn run(agent: &Agent, sandbox: &Sandbox, (name, mib, rate): (&str, u64, u64)) -> Command {
    let flags = ["--owner", name, "--name", name];
    let mut command = worker::run(agent, sandbox, &flags, &Hog::new(mib).rate(rate)).unwrap();
    command.stdin(Stdio::null());
    command
}

/// Node with the script that looks, if it, its library and a browser are here.
fn browser() -> Option<Command> {
    let node = in_path("node")?;
    let chromium = in_path("chromium")?;
    let playwright = in_cache("tools/node_modules/playwright-core/package.json")?;
    let mut command = Command::new(node);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("pages/look.cjs"));
    command.arg(playwright.parent()?).arg(chromium);
    Some(command)
}

#[test]
fn a_kill_appears_on_the_live_page_and_its_report_is_readable_everywhere() {
    let Some(mut look) = browser() else {
        skip!(Lacks::Machine, "no node, chromium or playwright-core: cargo xtask tools fetches them");
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pages");
    std::fs::create_dir_all(&folder).unwrap();
    let sandbox = sandbox!(256);
    let agent =
        Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--http-listen", "0", "--http-details"]).unwrap();
    let url = format!("http://{}", agent.http().unwrap());
    look.arg(&url).arg(&folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_parent(&mut look);
    let mut other = run(&agent, &sandbox, ("שלום", 20, 100)).spawn().unwrap();
    agent.worker("שלום").unwrap();
    let mut looking = look.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(looking.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line == "looking\n" {
        assert_eq!(run(&agent, &sandbox, (HOSTILE, 1 << 20, 60)).status().unwrap().code(), Some(137));
    }
    let mut said = String::new();
    looking.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = looking.wait().unwrap();
    let _ = other.kill();
    let _ = other.wait();
    assert!(status.success(), "{said}");
    for name in
        ["live", "live-phone", "live-dark", "report-desktop", "report-phone", "report-dark", "report-print"]
    {
        assert!(folder.join(format!("{name}.png")).is_file(), "{name}");
    }
}

#[test]
fn the_page_of_a_kill_is_written_to_a_file_from_the_agent_and_from_the_journal() {
    let sandbox = sandbox!(128);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let journal = journal.to_str().unwrap();
    let mut agent = Agent::guard(&sandbox, ["--usage-threshold", "0.5", "--journal", journal]).unwrap();
    assert_eq!(run(&agent, &sandbox, (HOSTILE, 1 << 20, 100)).status().unwrap().code(), Some(137));
    agent.kills_over(1).unwrap();
    let file = dir.path().join("kill.html");
    let page = |command: &mut Command| {
        let out = command.args(["1", "--html"]).arg(&file).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let page = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"), "{page}");
        page
    };
    // The report is complete a moment after the kill is over.
    monitor_tests::clock::wait_for("the report", monitor_tests::clock::PATIENCE, || {
        Ok(agent.command("kills")?.arg("1").output()?.status.success().then_some(()))
    })
    .unwrap();
    let of_agent = page(&mut agent.command("kills").unwrap());
    assert!(of_agent.contains("<svg") && of_agent.contains("Memory free"), "{of_agent}");
    // The chart comes into the journal ten seconds later.
    let charted = || Ok(std::fs::read_to_string(journal)?.contains("\"chart\"").then_some(()));
    monitor_tests::clock::wait_for("the chart", 2 * monitor_tests::clock::PATIENCE, charted).unwrap();
    agent.stop().unwrap();
    let mut command = Command::new(monitor_tests::binary::monitor().unwrap());
    let of_journal = page(command.args(["kills", "--journal", journal]));
    assert!(of_journal.contains("<svg"), "{of_journal}");
}
