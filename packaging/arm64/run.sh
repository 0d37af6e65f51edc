#!/usr/bin/env bash
# Run a command in the emulated ARM userland.
set -euo pipefail
usage="usage: packaging/arm64/run.sh CACHE COMMAND [ARGUMENT...]

COMMAND is python3, bihrnet-edge (once test.sh has installed it) or a program for aarch64; CACHE is the folder that
build_userland.sh made. The emulator's clock says nothing about the speed on a device.

example: packaging/arm64/run.sh ~/.cache/bihrnet-edge/arm64 bihrnet-edge doctor"
source=$(cd "$(dirname "$0")/../.." && pwd)
. "$source/packaging/common.sh"

case ${1:-} in
  -h | --help) echo "$usage" && exit ;;
  -*) die "there is no option $1; see --help." ;;
esac
[ $# -ge 2 ] || die "a folder and a command are needed; see --help."
[ -f "$1/stamp" ] || die "$1 holds no userland; make it with packaging/arm64/build_userland.sh $1."
cache=$(cd "$1" && pwd)
command=$2
shift 2
export PYTHONPATH="$cache/app"
case $command in
  python3) exec "$cache/sysroot/usr/bin/python3" "$@" ;;
  bihrnet-edge)
    [ -f "$cache/app/bin/bihrnet-edge" ] ||
      die "bihrnet-edge is not installed there; run packaging/arm64/test.sh $cache."
    exec "$cache/sysroot/usr/bin/python3" "$cache/app/bin/bihrnet-edge" "$@"
    ;;
  *)
    [ -f "$command" ] || die "there is no file $command; give python3, bihrnet-edge or a program for aarch64."
    exec qemu-aarch64 -L "$cache/sysroot" "$command" "$@"
    ;;
esac
