//! What a test has to say beyond passed and failed, left in a file for the program that runs it: `cargo xtask test` and
//! `cargo xtask vm`. One line a note, fields parted by tabs.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Names the file for what this kernel has or does not have.
pub const FACTS_VARIABLE: &str = "MONITOR_TEST_FACTS";

/// Notes a fact of this kernel for the table of kernels, e.g. `("cgroup.kill", "missing", "kernel 5.14 brought it")`.
/// `why` is a footnote there; empty: none.
///
/// # Panics
///
/// When the note cannot be written.
pub fn fact(name: &str, value: &str, why: &str) {
    eprintln!("{name}: {value}{}{why}", if why.is_empty() { "" } else { ": " });
    append(FACTS_VARIABLE, &[name, value, why]);
}

/// Appends a line to the file that `variable` names, if it names one.
///
/// # Panics
///
/// When it cannot be written: an uncounted skip would look like a pass.
pub(crate) fn append(variable: &str, fields: &[&str]) {
    let Some(file) = std::env::var_os(variable) else { return };
    let fields: Vec<String> = fields.iter().map(|field| field.replace(['\n', '\t'], " ")).collect();
    let line = format!("{}\n", fields.join("\t"));
    // One write: notes of other processes stay whole.
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("cannot note {line:?} in {}: {error}", file.display());
    }
}
