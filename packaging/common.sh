# shellcheck shell=bash
# What the scripts of this folder share; sourced.

die() {
  echo "${0##*/}: $1" >&2
  exit 2
}

# need COMMAND PACKAGE: where COMMAND is missing, install Debian's PACKAGE.
need() {
  command -v "$1" >/dev/null && return
  command -v apt-get >/dev/null || die "$1 is missing; install it."
  [ "$(id -u)" = 0 ] || die "$1 is missing; run as root: apt-get install $2"
  # Two tries: the lists of a machine may be older than its mirror.
  apt-get install --yes --no-install-recommends "$2" >&2 ||
    { apt-get update >&2 && apt-get install --yes --no-install-recommends "$2" >&2; } ||
    die "$2 could not be installed; see above."
}

# Where the emulated ARM userland lies unless a folder is given.
default_cache() {
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/bihrnet-edge/arm64"
}
