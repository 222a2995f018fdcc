//! libFuzzer's entry to `monitor_fuzz`: `btf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_fuzz::check("btf", data));
