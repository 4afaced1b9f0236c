#!/bin/sh
# Throws made-up input at everything that reads what strangers send: each target
# for FUZZ_SECONDS (60) from its seeds and what earlier runs have found worth
# keeping (fuzz/corpus). The input that breaks a target is kept in fuzz/artifacts
# and named. Takes an own build of all crates, of some minutes.
#
#   make fuzz                     all targets, a minute each
#   make fuzz FUZZ_SECONDS=3600 TARGETS="archive frames"
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

seconds="${FUZZ_SECONDS:-60}"
case "$seconds" in
*[!0-9]* | '' | 0)
    echo "fuzz: FUZZ_SECONDS=$seconds: not a whole number above 0" >&2
    exit 2
    ;;
esac
known=$(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2)
targets="${TARGETS:-$known}"
for target in $targets; do
    if ! printf '%s\n' "$known" | grep -qx -- "$target"; then
        printf 'fuzz: there is no target %s; there are\n%s\n' "$target" "$known" >&2
        exit 2
    fi
done

cargo=.tools/bin/cargo-fuzz
if [ ! -x "$cargo" ]; then
    echo "fuzz: $cargo is missing; cargo xtask tools installs it" >&2
    exit 1
fi
PATH="$PWD/.tools/bin:$PATH"
export PATH
# Without a sanitizer the stable compiler will do; nothing here is unsafe but the
# system calls, which no target reaches.
cargo fuzz build --sanitizer none

passed=0
failed=''
for target in $targets; do
    mkdir -p "fuzz/corpus/$target"
    echo "fuzz $target: $seconds s ..."
    log=$(mktemp)
    # A target that needs more than 10 s or 1 GiB for an input has no bound.
    if cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        >"$log" 2>&1; then
        passed=$((passed + 1))
        inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "fuzz $target: passed, $inputs inputs"
    else
        failed="$failed $target"
        tail -n 60 "$log"
        echo "fuzz $target: FAILED"
    fi
    rm -f "$log"
done
echo "fuzz: $passed targets passed${failed:+; these failed:$failed}"
[ -z "$failed" ]
