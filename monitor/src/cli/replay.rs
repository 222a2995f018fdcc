//! `monitor replay`: what the agent would decide if it were told everything in a recording again.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{ask, exit, kills};
use crate::recording::{self, ReplayError};

/// Re-run recorded decisions offline
///
/// Reads a file that `monitor agent --record FILE` wrote, decides again, and lists the kills. Needs no agent and no
/// root; kills nobody.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 done; 1 the file cannot be read, or a decision does not follow from its inputs; 2 a \
line is malformed."
)]
pub(super) struct Args {
    /// The recording; `-` reads standard input
    #[arg(value_name = "FILE")]
    recording: PathBuf,
    /// Print the kills as JSON, in the form of `monitor kills --json`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> u8 {
    let replayed = match open(&args.recording).and_then(|(name, input)| recording::replay(&name, input)) {
        Ok(replayed) => replayed,
        Err(error) => {
            ask::complain(&error);
            return match error {
                ReplayError::Read { .. } => exit::FAILED,
                ReplayError::Malformed { .. } => exit::USAGE,
            };
        }
    };
    let printed = if args.json {
        ask::print_json(&replayed.kills)
    } else {
        ask::print(&format!("{} events\n{}", replayed.events, kills::human(&replayed.kills, true)))
    };
    for kill in &replayed.unexplained {
        ask::complain(&format_args!("kill {kill} does not come out the same from its inputs alone"));
    }
    if replayed.unexplained.is_empty() { printed } else { exit::FAILED }
}

fn open(path: &Path) -> Result<(String, Box<dyn BufRead>), ReplayError> {
    if path == Path::new("-") {
        return Ok(("standard input".to_owned(), Box::new(io::stdin().lock())));
    }
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => Ok((name, Box::new(BufReader::new(file)))),
        Err(source) => Err(ReplayError::Read { name, source }),
    }
}
