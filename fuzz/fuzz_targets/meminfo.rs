//! libFuzzer's entry to `monitor_fuzz`: `meminfo`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_fuzz::check("meminfo", data));
