//! `monitor reload`: the agent reads its configuration again.

use super::ask::Ask;
use crate::control::answers::Reloaded;
use crate::control::protocol::Op;
use crate::printable::printable;

/// Make the agent read its configuration again
///
/// The agent reads its file again, with the flags and the environment that it was started with. If anything is wrong,
/// it shows each error with file, line and key, and the old settings stay in force. Workers stay registered. SIGHUP
/// does the same.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 done; 1 the configuration is wrong, or you may not reload it; 125 no agent answers."
)]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Reload, human)
}

fn human(reloaded: &Reloaded) -> String {
    let Reloaded { applied, needs_restart, overridden, unchanged } = reloaded;
    let list = |keys: &[String]| keys.iter().map(|key| printable(key)).collect::<Vec<_>>().join(", ");
    let mut out = match applied.as_slice() {
        [] => "Nothing that takes effect at once has changed.\n".to_owned(),
        keys => format!("In force now: {}.\n", list(keys)),
    };
    if !needs_restart.is_empty() {
        out += &format!("In force after the agent restarts: {}.\n", list(needs_restart));
    }
    for why in overridden {
        out += &format!("Not in force: {}.\n", printable(why));
    }
    out + &format!("{unchanged} settings are as before.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_said() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let reloaded = Reloaded {
            applied: keys(&["policy"]),
            needs_restart: keys(&["socket"]),
            overridden: keys(&["usage_threshold: /m.toml:3 says 0.8, but flag --usage-threshold counts"]),
            unchanged: 40,
        };
        insta::assert_snapshot!(human(&reloaded), @r"
        In force now: policy.
        In force after the agent restarts: socket.
        Not in force: usage_threshold: /m.toml:3 says 0.8, but flag --usage-threshold counts.
        40 settings are as before.
        ");
        assert!(human(&Reloaded::default()).starts_with("Nothing"));
    }
}
