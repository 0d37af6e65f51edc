#!/usr/bin/env bash
# The source distribution and the wheels for Linux, each checked before it is handed out.
set -euo pipefail
usage="usage: packaging/build_wheels.sh [OUT [ARCHITECTURE...]]

Writes the sdist and one wheel an architecture (x86_64, aarch64; both unless given) into OUT (dist unless given),
and a table of them. aarch64 is cross-compiled where this machine is another; that takes g++-aarch64-linux-gnu,
which is installed where it is missing and this is run as root on Debian.

example: packaging/build_wheels.sh dist aarch64"
source=$(cd "$(dirname "$0")/.." && pwd)
. "$source/packaging/common.sh"

case ${1:-} in
  -h | --help) echo "$usage" && exit ;;
  -*) die "there is no option $1; see --help." ;;
esac
out=${1:-dist}
architectures=("${@:2}")
[ ${#architectures[@]} -gt 0 ] || architectures=(x86_64 aarch64)
# The oldest glibc that is asked for: ai-edge-litert's, without which the library has nothing to do.
platform=manylinux_2_27
python=${PYTHON:-python3}

mkdir -p "$out" 2>/dev/null || die "$out cannot be made; name another folder."
out=$(cd "$out" && pwd)
for architecture in "${architectures[@]}"; do
  case $architecture in
    "$(uname -m)") need g++ g++ ;;
    aarch64) need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu ;;
    *) die "$architecture cannot be built on $(uname -m); choose x86_64 on such a machine, or aarch64." ;;
  esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv" || die "$python has no venv; on Debian install python3-venv, or name another in PYTHON."
"$work/venv/bin/python" -m pip install --quiet --constraint "$source/constraints.txt" build wheel
mkdir "$work/sdist" "$work/source" "$work/wheel"
"$work/venv/bin/python" -m build --sdist --outdir "$work/sdist" "$source" >"$work/log" 2>&1 ||
  { cat "$work/log" >&2 && die "the sdist was not built; see above."; }
# From the sdist, which shows that it is whole.
tar xzf "$work"/sdist/*.tar.gz -C "$work/source" --strip-components=1
for architecture in "${architectures[@]}"; do
  options=(--config-setting=cmake.define.BIHRNET_OLD_GLIBC=ON)
  [ "$architecture" = "$(uname -m)" ] ||
    options+=("--config-setting=cmake.define.CMAKE_TOOLCHAIN_FILE=$source/packaging/$architecture-linux-gnu.cmake")
  "$work/venv/bin/python" -m build --wheel "${options[@]}" --outdir "$work/wheel" "$work/source" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2 && die "the wheel for $architecture was not built; see above."; }
  "$work/venv/bin/python" -m wheel tags --remove --platform-tag "${platform}_$architecture" \
    "$work"/wheel/*-linux_*.whl >/dev/null
done
"$work/venv/bin/python" "$source/packaging/check_wheel.py" "$work"/sdist/*.tar.gz "$work"/wheel/*.whl
mv "$work"/sdist/*.tar.gz "$work"/wheel/*.whl "$out"
