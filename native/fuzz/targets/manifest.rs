#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| perfuse_arrow_storage::fuzzing::manifest(bytes));
