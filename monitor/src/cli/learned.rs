//! `monitor learned`: what workloads of each name needed before, and how to have it forgotten.

use super::ask::Ask;
use super::table::{maybe, table};
use crate::control::protocol::{NAME_MOST, Op};
use crate::learn::LearnedView;
use crate::printable::printable;

/// Show what workloads of each name needed before, or forget it
///
/// The agent remembers how much memory the workers of each user and name reached, and lets starts wait for that much
/// room (--admission of `monitor run`). If runs of a name differ, it expects the largest of the last 32. It forgets a
/// name that was not used for 30 days.
#[derive(Debug, clap::Args)]
#[command(override_usage = "monitor learned [OPTIONS]\n       monitor learned [OPTIONS] forget NAME")]
#[command(after_help = "Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    /// Forget what was learned of NAME: of your own workloads, and as root of everybody's
    #[arg(value_parser = ["forget"], requires = "name", hide_possible_values = true)]
    forget: Option<String>,
    /// The name to forget
    #[arg(value_parser = not_too_long)]
    name: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

fn not_too_long(text: &str) -> Result<String, String> {
    if text.len() > NAME_MOST {
        Err(format!("no name has more than {NAME_MOST} bytes"))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn run(args: &Args) -> u8 {
    match (&args.forget, &args.name) {
        (Some(_), Some(name)) => {
            args.ask.ask(Op::ForgetLearned { name: name.clone() }, |forgotten: &usize| match forgotten {
                0 => format!("Nothing was known of {}.\n", printable(name)),
                1 => format!("{} is forgotten.\n", printable(name)),
                users => format!("{} is forgotten, of {users} users.\n", printable(name)),
            })
        }
        (_, None) | (None, Some(_)) => args.ask.ask(Op::Learned, |learned: &Vec<LearnedView>| human(learned)),
    }
}

fn human(learned: &[LearnedView]) -> String {
    if learned.is_empty() {
        return "Nothing is learned yet. Name your workloads: monitor run --name NAME -- CMD\n".to_owned();
    }
    let rows = learned.iter().map(|name| {
        [
            maybe(Some(&name.name)),
            name.uid.to_string(),
            name.need.to_string(),
            name.runs.to_string(),
            name.cut_short.to_string(),
            format!("{} to {}", name.smallest, name.largest),
            days(name.age_s),
            printable(&name.why),
        ]
    });
    table(["NAME", "UID", "NEEDS", "RUNS", "CUT SHORT", "REACHED", "LAST RUN", "WHY"], rows, &["NEEDS"])
}

fn days(age_s: u64) -> String {
    match age_s {
        0..120 => format!("{age_s} s ago"),
        120..7_200 => format!("{} min ago", age_s / 60),
        7_200..172_800 => format!("{} h ago", age_s / 3_600),
        172_800.. => format!("{} days ago", age_s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    #[test]
    fn a_name_is_a_line_that_says_why() {
        let view = LearnedView {
            uid: 1000,
            name: "train".to_owned(),
            need: Bytes(90 << 20),
            why: "the largest of its last 3 runs".to_owned(),
            runs: 3,
            cut_short: 1,
            largest: Bytes(90 << 20),
            smallest: Bytes(80 << 20),
            age_s: 7_300,
        };
        insta::assert_snapshot!(human(&[view]), @r"
        NAME   UID      NEEDS  RUNS  CUT SHORT  REACHED               LAST RUN  WHY
        train  1000  90.0 MiB  3     1          80.0 MiB to 90.0 MiB  2 h ago   the largest of its last 3 runs
        ");
        assert!(human(&[]).starts_with("Nothing is learned yet"));
    }
}
