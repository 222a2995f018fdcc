//! libFuzzer's entry to `monitor_fuzz`: `recording`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_fuzz::check("recording", data));
