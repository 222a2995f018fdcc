//! libFuzzer's entry to `monitor_fuzz`: `memory_stat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| monitor_fuzz::check("memory_stat", data));
