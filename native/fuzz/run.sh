#!/usr/bin/env bash
# Fuzzes one target: native/fuzz/run.sh log|manifest|segment|rows [SECONDS] [LIBFUZZER OPTION…]
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?log, manifest, segment or rows} seconds=${2:-60}
# Not below native/, whose sources decide when the extension is compiled again.
out=${CARGO_TARGET_DIR:-../../target/fuzz}
export CARGO_TARGET_DIR=$out

# The sanitizers are in the stable compiler; only their flags are not.
export RUSTC_BOOTSTRAP=1
# As cargo-fuzz has it: a counter per edge, the table of their addresses, operands of comparisons, AddressSanitizer.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Zsanitizer=address"
# Naming the host keeps these flags from build scripts, which are not linked with libFuzzer.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --release --locked --target "$host" --bin "$target"

# The store of `rows` syncs often, which is free in memory; what is put stays in it, which is no leak.
if [[ -d /dev/shm ]]; then export TMPDIR=/dev/shm; fi
leaks=1
if [[ $target == rows ]]; then leaks=0; fi
# New inputs stay out of the committed corpus until a few are chosen for it; see README.md.
mkdir -p "$out/corpus/$target" "$out/artifacts"
exec nice -n 5 "$out/$host/release/$target" "$out/corpus/$target" "corpus/$target" -max_total_time="$seconds" \
    -max_len=8192 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -detect_leaks="$leaks" \
    -artifact_prefix="$out/artifacts/" "${@:3}"
