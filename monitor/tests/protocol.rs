//! `docs/protocol.md` against the real agent: each transcript is said to an agent of its own, which guards a "node"
//! whose memory the test makes up in files. It registers and kills nothing but processes that this test started.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the made-up node has, and uses, in bytes. All with as many digits, so that a reader sees the one or the other.
const TOTAL: &str = "9000000000";
const LITTLE: &str = "1000000000";
const MUCH: &str = "8000000000";

/// Stand for what a transcript leaves open, where JSON has no word for it.
const NUMBER: &str = "<number>";
const MORE: &str = "<more>";

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    fs::read_to_string(path).unwrap()
}

/// The lines of each transcript, with their numbers in the document.
fn transcripts(document: &str) -> Vec<Vec<(usize, &str)>> {
    let mut found: Vec<Vec<(usize, &str)>> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(document.lines()) {
        match line {
            "```transcript" => {
                inside = true;
                found.push(Vec::new());
            }
            "```" => inside = false,
            _ if inside => found.last_mut().unwrap().push((number, line)),
            _ => {}
        }
    }
    found
}

/// A process that ends with the test.
struct Started(Child);

impl Started {
    fn sleeping() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn start_time(&self) -> u64 {
        monitor::kill::start_time("/proc".as_ref(), monitor::units::Pid(self.0.id())).unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent, the files that it takes for the node's cgroup, and two processes to register.
struct Scene {
    agent: Started,
    processes: [Started; 2],
    usage: File,
    files: TempDir,
}

impl Scene {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let usage = cgroups(files.path());
        let mut agent = Command::new(env!("CARGO_BIN_EXE_monitor"));
        for (name, _) in std::env::vars_os() {
            let ours =
                name.to_str().is_some_and(|name| name.starts_with("MONITOR_") || name.starts_with("RAY_"));
            if ours {
                agent.env_remove(name);
            }
        }
        agent.args(["agent", "--config", "/dev/null", "--journal", "none", "--probe", "poll"]);
        agent.args(["--unhelpful-kills", "kill", "--usage-threshold", "0.5"]);
        agent.arg("--socket").arg(files.path().join("socket"));
        agent.arg("--cgroupfs").arg(files.path().join("cgroup"));
        agent.stdin(Stdio::null()).stderr(File::create(files.path().join("log")).unwrap());
        let agent = Started(agent.spawn().unwrap());
        Self { agent, processes: [Started::sleeping(), Started::sleeping()], usage, files }
    }

    /// Waits until the agent listens.
    fn connect(&mut self) -> UnixStream {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(stream) = UnixStream::connect(self.files.path().join("socket")) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            let ended = self.agent.0.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "no agent ({ended:?}):\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap()
    }

    fn uses(&self, bytes: &str) {
        self.usage.write_all_at(bytes.as_bytes(), 0).unwrap();
    }

    /// A line of the document with the numbers of this scene's processes.
    fn fill_in(&self, line: &str) -> String {
        let [one, two] = &self.processes;
        // The longer names first: the others are part of them.
        [("START_TIME_2", two.start_time()), ("PID_2", two.0.id().into())]
            .into_iter()
            .chain([("START_TIME", one.start_time()), ("PID", one.0.id().into())])
            .fold(line.to_owned(), |line, (name, number)| line.replace(name, &number.to_string()))
    }
}

/// A root cgroup with a limit, of the version that this kernel has the memory controller in; the file of its usage.
fn cgroups(files: &Path) -> File {
    let v1 = fs::read_to_string("/proc/self/cgroup").unwrap().contains(":memory:");
    let (root, limit, usage, prefix) = if v1 {
        ("cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    } else {
        ("cgroup", "memory.max", "memory.current", "")
    };
    let root = files.join(root);
    fs::create_dir_all(&root).unwrap();
    let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    if !v1 {
        write("cgroup.controllers", "memory\n");
    }
    write("cgroup.procs", "");
    write(limit, &format!("{TOTAL}\n"));
    write(usage, &format!("{LITTLE}\n"));
    write("memory.stat", &format!("{prefix}inactive_file 0\n{prefix}active_file 0\n"));
    File::options().write(true).open(root.join(usage)).unwrap()
}

/// A line that the document expects, with words for what it leaves open.
fn expected(line: &str) -> Value {
    let line = line
        .replace("NUMBER", &format!("{NUMBER:?}"))
        .replace(", ...}", &format!(", {MORE:?}: 0}}"))
        .replace(", ...]", &format!(", {MORE:?}]"));
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// What is wrong with what came, and where.
fn difference(expected: &Value, came: &Value, path: &str) -> Option<String> {
    let differs = || Some(format!("{path}: expected {expected}, and {came} came"));
    match (expected, came) {
        (Value::String(word), _) if word == NUMBER => (!came.is_number()).then(differs)?,
        (Value::String(word), _) if word == "..." => (!came.is_string()).then(differs)?,
        (Value::Object(expected), Value::Object(came)) => {
            let open = expected.contains_key(MORE);
            if let Some(key) = came.keys().find(|key| !open && !expected.contains_key(*key)) {
                return Some(format!("{path}.{key}: came and is not in the document"));
            }
            expected.iter().filter(|(key, _)| *key != MORE).find_map(|(key, value)| {
                difference(value, came.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"))
            })
        }
        (Value::Array(items), Value::Array(came)) => {
            let open = items.last().is_some_and(|last| last == MORE);
            let items = if open { &items[..items.len() - 1] } else { items };
            if came.len() < items.len() || (came.len() > items.len() && !open) {
                return differs();
            }
            let pairs = (0..).zip(items.iter().zip(came));
            pairs
                .into_iter()
                .find_map(|(at, (item, came)): (usize, _)| difference(item, came, &format!("{path}[{at}]")))
        }
        _ if expected == came => None,
        _ => differs(),
    }
}

/// Whether this push may be passed over: the document waits for something else. A second kill comes if the agent is quicker
/// than the memory that the test gives back, and its report can be the first.
fn passed_over(expected: &Value, came: &Value) -> bool {
    let kind = |line: &Value| (line["push"].clone(), line["note"]["note"].clone(), line["kill"].clone());
    came.get("push").is_some() && kind(expected) != kind(came)
}

/// Says the client's lines to an agent, and compares what it says.
fn play(transcript: &[(usize, &str)]) {
    let mut scene = Scene::new();
    let mut stream = scene.connect();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    for (number, line) in transcript {
        if let Some(call) = line.strip_prefix("> ") {
            stream.write_all(format!("{}\n", scene.fill_in(call)).as_bytes()).unwrap();
        } else if let Some(line) = line.strip_prefix("< ") {
            let expected = expected(&scene.fill_in(line));
            let came = loop {
                let mut text = String::new();
                let read = lines.read_line(&mut text);
                assert!(
                    matches!(read, Ok(1..)),
                    "line {number}: {read:?} instead of {expected}\n{}",
                    scene.log()
                );
                let came: Value = serde_json::from_str(&text).unwrap();
                if came["push"] == "verdict" {
                    scene.uses(LITTLE);
                }
                if !passed_over(&expected, &came) {
                    break came;
                }
            };
            let different = difference(&expected, &came, "");
            assert_eq!(different, None, "docs/protocol.md:{number}:\nexpected {expected}\ncame     {came}");
        } else if *line == "# memory runs out" {
            scene.uses(MUCH);
        } else {
            panic!(
                "docs/protocol.md:{number}: neither a call, nor an answer, nor \"# memory runs out\": {line}"
            );
        }
    }
}

#[test]
fn the_agent_says_what_the_document_says() {
    let document = document();
    let transcripts = transcripts(&document);
    assert!(transcripts.len() >= 8, "only {} transcripts found", transcripts.len());
    transcripts.iter().for_each(|transcript| play(transcript));
}

#[test]
fn the_transcripts_have_every_call_and_every_push_of_a_kill() {
    let document = document();
    let lines: String = transcripts(&document).concat().iter().map(|(_, line)| format!("{line}\n")).collect();
    for op in [
        "\"register\"",
        "\"unregister\"",
        "\"set_idle\"",
        "\"status\"",
        "\"metrics\"",
        "\"workers\"",
        "\"explain\"",
        "\"kills\"",
        "\"report\"",
        "\"samples\"",
        "\"watch\"",
    ] {
        let named = [format!("\"op\": {op}"), format!("\"op\": {{{op}")];
        assert!(named.iter().any(|call| lines.contains(call)), "no transcript has {op}");
    }
    for push in ["verdict", "report", "note"] {
        assert!(lines.contains(&format!("{{\"push\": {push:?}")), "no transcript has the push {push}");
    }
}

#[test]
fn a_difference_is_found() {
    for (line, came, different) in [
        (r#"{"a": NUMBER, "b": "..."}"#, r#"{"a": 7, "b": "x"}"#, false),
        (r#"{"a": NUMBER}"#, r#"{"a": "7"}"#, true),
        (r#"{"a": "..."}"#, r#"{"a": 7}"#, true),
        (r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#, true),
        (r#"{"a": 1, ...}"#, r#"{"a": 1, "b": 2}"#, false),
        (r#"{"a": 1, "b": 2, ...}"#, r#"{"a": 1}"#, true),
        (r#"[1, 2]"#, r#"[1, 2, 3]"#, true),
        (r#"[1, 2, ...]"#, r#"[1, 2, 3]"#, false),
        (r#"[1, {"a": NUMBER}]"#, r#"[1, {"a": null}]"#, true),
        (r#"[1, 2]"#, r#"[1]"#, true),
    ] {
        let came: Value = serde_json::from_str(came).unwrap();
        assert_eq!(difference(&expected(line), &came, "").is_some(), different, "{line} and {came}");
    }
}
