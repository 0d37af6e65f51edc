#!/bin/sh
# Builds the native tests with sanitizers and runs them: run_sanitizers.sh BUILD_DIR
set -eu
build=${1:?give a folder to build in}
mkdir -p "$build"
source=$(cd "$(dirname "$0")/../../.." && pwd)

quietly() { # its output only where it fails
  "$@" >"$build/log" 2>&1 || {
    cat "$build/log"
    exit 1
  }
}

check() { # the sanitizers, the tests
  folder=$build/$(echo "$1" | tr , -)
  # No optimisation: the reports' lines are then those of the source, and it builds in a fraction of the time.
  quietly cmake -S "$source" -B "$folder" -DCMAKE_BUILD_TYPE=Sanitize -DCMAKE_CXX_FLAGS_SANITIZE=-O0 \
    -DBIHRNET_NATIVE_TESTS=ON -DBIHRNET_SANITIZE="$1"
  for test in $2; do
    quietly cmake --build "$folder" --parallel "${BIHRNET_JOBS:-2}" --target "${test}_test"
    echo "$test with -fsanitize=$1"
    # The first report ends the run with an exit code; UBSan alone would go on.
    (
      cd "$folder/runtimes/native/tests"
      ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1 \
        ctest --output-on-failure --no-tests=error --timeout 600 -R "^$test\$"
    )
  done
}

check address,undefined "kernels delegate"
check thread delegate # a kernel knows no threads
