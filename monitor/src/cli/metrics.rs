//! `monitor metrics`: the agent's numbers as OpenMetrics text.

use super::ask::Ask;
use crate::control::protocol::Op;
use crate::printable::printable;

/// Print the agent's metrics as OpenMetrics text, as `http_listen` serves them at /metrics
#[derive(Debug, clap::Args)]
#[command(after_help = "With --json the text is one JSON string.\n\
    Exit status: 0 done; 1 the agent refused; 125 no agent answers.")]
pub(super) struct Args {
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> u8 {
    args.ask.ask(Op::Metrics, |text: &String| human(text))
}

/// Line by line: a label may hold what a terminal would obey.
fn human(answer: &str) -> String {
    answer.lines().map(|line| printable(line) + "\n").collect()
}
