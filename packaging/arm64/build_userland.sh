#!/usr/bin/env bash
# Debian 12 for 64-bit ARM, as on a Raspberry Pi: Python and what the package depends on, to be run in an emulator.
set -euo pipefail
usage="usage: packaging/arm64/build_userland.sh [CACHE]

Makes CACHE/sysroot, a folder with Debian 12's arm64 Python 3.11 and the aarch64 wheels of the package's dependencies,
those of the extra video included.
Nothing of this machine's own package database changes. Where it is there already, nothing is done. CACHE is
\$XDG_CACHE_HOME/bihrnet-edge/arm64 or ~/.cache/bihrnet-edge/arm64 unless given. It takes Debian 12 and qemu-user;
qemu-user is installed where it is missing and this is run as root.

example: packaging/arm64/build_userland.sh ~/arm64 && packaging/arm64/run.sh ~/arm64 python3 --version"
source=$(cd "$(dirname "$0")/../.." && pwd)
. "$source/packaging/common.sh"

case ${1:-} in
  -h | --help) echo "$usage" && exit ;;
  -*) die "there is no option $1; see --help." ;;
esac
[ $# -le 1 ] || die "one folder is taken, not $#; see --help."
cache=${1:-$(default_cache)}
python=${PYTHON:-python3}
mirrors=/etc/apt/sources.list.d/debian.sources
[ -f "$mirrors" ] || mirrors=/etc/apt/sources.list
grep -qs '^VERSION_CODENAME=bookworm$' /etc/os-release || die "this machine is not Debian 12, whose mirrors are used."
need qemu-aarch64 qemu-user
mkdir -p "$cache" 2>/dev/null || die "$cache cannot be made; name another folder."
cache=$(cd "$cache" && pwd)

# tomllib came with Python 3.11; pip has brought its own for longer.
requirements=$(cd "$source" && "$python" -c '
try: import tomllib
except ImportError: from pip._vendor import tomli as tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["video"]))')
stamp=$({ echo "$requirements" && cat "$0" "$source/constraints.txt"; } | sha256sum)
if [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ]; then
  exit
fi
echo "building $cache/sysroot"
rm -rf "$cache/stamp" "$cache/sysroot" "$cache/apt"

# apt with a state of its own, in which nothing is installed, so that it resolves everything that Python needs.
mkdir -p "$cache/sysroot" "$cache/apt/state/lists/partial" "$cache/apt/cache/archives/partial"
: >"$cache/apt/status"
cat >"$cache/apt/apt.conf" <<EOF
APT::Architecture "arm64";
#clear APT::Architectures;
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
#clear APT::Update::Post-Invoke;
#clear DPkg::Post-Invoke;
Dir::State "$cache/apt/state";
Dir::State::status "$cache/apt/status";
Dir::Cache "$cache/apt/cache";
Dir::Etc::sourcelist "$mirrors";
Dir::Etc::sourceparts "-";
Acquire::Languages "none";
EOF
{
  apt-get --config-file "$cache/apt/apt.conf" --quiet update &&
    apt-get --config-file "$cache/apt/apt.conf" --quiet --yes --download-only --no-install-recommends \
      install python3.11 libstdc++6
} >"$cache/apt/log" 2>&1 || { cat "$cache/apt/log" >&2 && die "apt did not fetch Debian's arm64 packages; see above."; }
for package in "$cache"/apt/cache/archives/*.deb; do
  dpkg-deb --extract "$package" "$cache/sysroot"
done

# Any version of glibc that Debian 12's 2.36 runs.
platforms=(--platform=manylinux2014_aarch64)
for minor in $(seq 17 36); do
  platforms+=("--platform=manylinux_2_${minor}_aarch64")
done
echo "$requirements" >"$cache/requirements.txt"
"$python" -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --root-user-action ignore \
  --target "$cache/sysroot/usr/lib/python3/dist-packages" --only-binary=:all: \
  --implementation cp --python-version 3.11 "${platforms[@]}" \
  --constraint "$source/constraints.txt" --requirement "$cache/requirements.txt" ||
  die "pip did not install the dependencies; see above."

# Python takes the name it is started by as sys.executable: so what it starts in turn is emulated, too.
cat >"$cache/sysroot/usr/bin/python3" <<'EOF'
#!/bin/sh
root=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
exec qemu-aarch64 -L "$root" -0 "$root/usr/bin/python3" "$root/usr/bin/python3.11" "$@"
EOF
chmod +x "$cache/sysroot/usr/bin/python3"
"$cache/sysroot/usr/bin/python3" -c 'import os, ai_edge_litert.interpreter; assert os.uname().machine == "aarch64"' ||
  die "the emulated Python does not run; see above."
rm -rf "$cache/apt"
echo "$stamp" >"$cache/stamp"
