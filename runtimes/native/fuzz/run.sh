#!/bin/sh
# Fuzzes the delegate, then its reader of options: run.sh BUILD_DIR [SECONDS of the first, 60 by default]
# Exits with an error after a finding, which then lies in BUILD_DIR/findings. The corpus in BUILD_DIR/corpus goes on
# growing from run to run.
set -eu
build=${1:?give a folder to build in}
seconds=${2:-60}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$build/findings" "$build/corpus/model" "$build/corpus/flexbuffer"
cmake -S "$here/../../.." -B "$build/build" -DCMAKE_CXX_COMPILER="${BIHRNET_CLANG:-clang++}" -DBIHRNET_NATIVE_FUZZ=ON \
  -DBIHRNET_SANITIZE=address,undefined,fuzzer-no-link -DCMAKE_BUILD_TYPE=Fuzz \
  -DCMAKE_CXX_FLAGS_FUZZ="-O1 -fno-sanitize-recover=all"
cmake --build "$build/build" --parallel "${BIHRNET_JOBS:-2}" --target fuzz_model fuzz_flexbuffer

fuzz() {  # name of the target, seconds, longest input
  "$build/build/runtimes/native/tests/fuzz/fuzz_$1" "$build/corpus/$1" "$here/corpus/$1" -max_total_time="$2" \
    -max_len="$3" -timeout=25 -rss_limit_mb=2048 -artifact_prefix="$build/findings/$1-" -print_final_stats=1
}
fuzz model "$seconds" 65536
fuzz flexbuffer $((seconds / 10 + 1)) 512
