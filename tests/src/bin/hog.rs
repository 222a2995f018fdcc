//! The worker that touches memory: see `monitor_tests::hog`.

use std::process::ExitCode;

use clap::Parser as _;
use monitor_tests::hog::{Hog, run};

fn main() -> ExitCode {
    match run(&Hog::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("hog: {error:#}");
            ExitCode::FAILURE
        }
    }
}
