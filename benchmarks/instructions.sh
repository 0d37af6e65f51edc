#!/usr/bin/env bash
# How many instructions an inference takes on a Raspberry Pi's core, counted in the emulated ARM userland, one thread.
#
# A count is no time: it knows neither how many instructions a core does at once nor what waits for memory. But it does not
# depend on this machine, and tells what the same kernels gain or lose. Counted are one and three inferences with the
# delegate; their difference, halved, is one inference without the start.
set -euo pipefail
usage="usage: benchmarks/instructions.sh CACHE MODEL.lce.tflite...

CACHE is the folder that packaging/arm64/test.sh has made. CPU names the core: cortex-a72 (Raspberry Pi 4) unless given.

example: benchmarks/instructions.sh ~/.cache/bihrnet-edge/arm64 w32.lce.tflite w32.int8.lce.tflite"
source=$(cd "$(dirname "$0")/.." && pwd)
. "$source/packaging/common.sh"

case ${1:-} in
  -h | --help) echo "$usage" && exit ;;
esac
[ $# -ge 2 ] || die "a folder and a model are needed; see --help."
[ -f "$1/stamp" ] && [ -d "$1/app" ] || die "$1 holds no userland with bihrnet-edge; packaging/arm64/test.sh makes it."
cache=$(cd "$1" && pwd)
shift
need qemu-aarch64 qemu-user
need gcc gcc
cpu=${CPU:-cortex-a72}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -O2 -shared -fPIC -o "$work/instructions.so" "$source/benchmarks/native/instructions.c"

count() { # model, inferences
  rm -f "$work/counts"
  echo "0 $2" | COUNTS="$work/counts" PYTHONPATH="$cache/app" qemu-aarch64 -cpu "$cpu" -L "$cache/sysroot" \
    -plugin "$work/instructions.so" "$cache/sysroot/usr/bin/python3.11" "$source/benchmarks/latency_worker.py" \
    serve "$1" litert 1 >"$work/log" 2>&1 || { cat "$work/log" >&2 && die "$1 did not run; see above."; }
  [ -s "$work/counts" ] || die "nothing was counted; this qemu-aarch64 takes no plugins."
  cat "$work/counts"
}

echo "millions of instructions an inference, $cpu, one thread"
for model in "$@"; do
  [ -f "$model" ] || die "there is no file $model."
  one=$(count "$model" 1)
  three=$(count "$model" 3)
  awk -v one="$one" -v three="$three" -v model="$model" 'BEGIN { printf "%8.1f  %s\n", (three - one) / 2e6, model }'
done
