//! libFuzzer's entry to `monitor_fuzz`: `control_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_fuzz::check("control_line", data));
