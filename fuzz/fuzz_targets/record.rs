//! libFuzzer's entry to `monitor_fuzz`: `record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_fuzz::check("record", data));
