//! `monitor-ray-run [--env NAME=VALUE]... -- COMMAND...`: a command in a mount namespace of its own, for `monitor ray run` of
//! users without privileges. An administrator gives this small program, and no other, the capability for that:
//! `setcap cap_sys_admin=ep`. It makes the namespace, gives the capability up, and becomes the command, as the same user
//! and with nothing gained. See docs/ray.md.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use monitor::ray::own_mount_namespace;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// What went wrong is said in one line, by what `monitor ray run` says it with.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let error = match run(std::env::args_os().skip(1).collect()) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("monitor: {error}");
    ExitCode::from(FAILED)
}

fn run(arguments: Vec<OsString>) -> Result<std::convert::Infallible, String> {
    let (variables, command) = parse(arguments)?;
    own_mount_namespace().map_err(|error| {
        format!("{error}. As root: setcap cap_sys_admin=ep on this program; or start Ray as root")
    })?;
    give_up().map_err(|error| format!("cannot give up the capability: {error}"))?;
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(variables);
    let error = command.exec();
    Err(format!("cannot run {}: {error}", program.to_string_lossy()))
}

/// All of them, before anything of the command's is looked at.
fn give_up() -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

type Parsed = (Vec<(OsString, OsString)>, Vec<OsString>);

fn parse(arguments: Vec<OsString>) -> Result<Parsed, String> {
    let mut variables = Vec::new();
    let mut arguments = arguments.into_iter();
    loop {
        match arguments.next() {
            Some(word) if word == "--" => break,
            Some(word) if word == "--env" => {
                let variable = arguments.next().unwrap_or_default();
                let bytes = variable.as_bytes();
                let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
                let (name, value) = bytes.split_at(at.ok_or("--env takes NAME=VALUE")?);
                variables.push((OsString::from_vec(name.to_vec()), OsString::from_vec(value[1..].to_vec())));
            }
            Some(_) | None => return Err("usage: monitor-ray-run [--env NAME=VALUE]... -- COMMAND...".into()),
        }
    }
    let command: Vec<OsString> = arguments.collect();
    if command.is_empty() { Err("no command".into()) } else { Ok((variables, command)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Parsed, String> {
        parse(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn variables_come_before_the_command_and_its_words_are_its_own() {
        let (variables, command) = of(&["--env", "A=b=c", "--", "ray", "--env", "X=1"]).unwrap();
        assert_eq!(variables, [("A".into(), "b=c".into())]);
        assert_eq!(command, ["ray", "--env", "X=1"]);
        for wrong in [&["ray"][..], &["--"], &[], &["--env", "=1", "--", "x"], &["--env"]] {
            of(wrong).unwrap_err();
        }
    }
}
