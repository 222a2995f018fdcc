//! The `monitor` binary: parse, log, call.

use std::process::ExitCode;

fn main() -> ExitCode {
    monitor::cli::main()
}
