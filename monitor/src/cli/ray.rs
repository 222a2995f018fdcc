//! `monitor ray`: what the agent does for raylets, and a mount namespace for Ray.

use std::ffi::OsString;

use super::{ask, exit};
use crate::control::protocol::Op;
use crate::printable::printable;
use crate::ray::{RayletView, run_in_namespace};
use crate::units::Pid;

/// Start Ray so that the agent can ask its raylet to kill, and show the raylets (docs/ray.md)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a command that starts Ray (`ray start --head`, `python train.py`) in its own mount namespace
    ///
    /// Needs root; or, for users without privileges, monitor-ray-run with its capability (docs/ray.md).
    Run(Run),
    /// Show the raylets of this machine: what each reads, how often, and whether the agent asks it to kill
    Status(Status),
    /// Give the kernel's own files back to raylets: Ray's own monitor then works as if there were no agent
    Detach(Detach),
}

/// `monitor ray run`.
#[derive(Debug, clap::Args)]
struct Run {
    /// Run it as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `monitor ray status`.
#[derive(Debug, clap::Args)]
struct Status {
    #[command(flatten)]
    ask: ask::Ask,
}

/// `monitor ray detach`.
#[derive(Debug, clap::Args)]
struct Detach {
    #[command(flatten)]
    ask: ask::Ask,
    /// Only this raylet
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

pub(super) fn run(args: &Args) -> u8 {
    match &args.command {
        Command::Run(args) => {
            let error = run_in_namespace(&args.command, args.user.as_deref());
            ask::complain(&error);
            exit::FAILED
        }
        Command::Status(args) => {
            args.ask.ask::<Option<Vec<RayletView>>>(Op::RayStatus, |views| text(views.as_deref()))
        }
        Command::Detach(args) => {
            args.ask.ask::<()>(Op::RayDetach { pid: args.pid.map(Pid) }, |()| "Detached.\n".to_owned())
        }
    }
}

fn text(views: Option<&[RayletView]>) -> String {
    match views {
        None => "The agent does not look for raylets. Start it with --preset ray.\n".to_owned(),
        Some([]) => "No raylet runs on this machine.\n".to_owned(),
        Some(views) => views.iter().map(one).collect(),
    }
}

fn one(view: &RayletView) -> String {
    let mut text = format!("raylet {} of uid {}", view.pid, view.uid);
    for (name, value) in [("session", &view.session), ("node", &view.node)] {
        if let Some(value) = value {
            text.push_str(&format!(", {name} {}", printable(value)));
        }
    }
    text.push('\n');
    match (&view.why, view.attached) {
        (_, true) => text.push_str("  attached: it kills when the agent asks it to\n"),
        (why, false) => {
            let why = why.as_deref().unwrap_or("unknown");
            text.push_str(&format!("  not attached: {}\n", printable(why)));
        }
    }
    if let (Some(threshold), Some(total), Some(refresh)) = (view.threshold, view.total, view.refresh_ms) {
        let reads = view.reads.as_deref().unwrap_or("the kernel's files");
        text.push_str(&format!("  threshold {threshold} of {total}, reads {reads} every {refresh} ms\n"));
    }
    if view.attached && view.by_group != Some(true) {
        text.push_str(
            "  its policy may be by_time, which can kill several workers at once and knows no last task: set \
             RAY_worker_killing_policy_by_group=true\n",
        );
    }
    let ago = |what: &str, ago: Option<u64>| match ago {
        Some(ms) => format!("{what} {ms} ms ago"),
        None => format!("never {what}"),
    };
    if view.reads.is_some() {
        let (read, asked) = (ago("read", view.last_receipt_ms), ago("asked", view.last_pulse_ms));
        text.push_str(&format!("  {read}; {asked} ({} times, noted {})\n", view.pulses, view.receipts));
    }
    text
}
