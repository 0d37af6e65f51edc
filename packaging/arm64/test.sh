#!/usr/bin/env bash
# Everything that a Raspberry Pi would run, in the emulated userland: the wheel, the native tests, the command line.
set -euo pipefail
usage="usage: packaging/arm64/test.sh [CACHE [MODEL.lce.tflite]]

Builds the userland where CACHE lacks it (see build_userland.sh), the aarch64 wheel and the native tests, and runs them.
Then bench (also through an ssh server on loopback), predict (of a picture and of a video) and eval of the model are run
there and compared with Larq Compute Engine's own interpreter here; inspect is compared with itself here, and the demo
is asked for its page and for the joints that predict found.
That takes a Python with bihrnet-edge[export,eval], named in PYTHON. The model is exported from the bundled checkpoint
unless one is given; people to evaluate on are looked for in \$BIHRNET_DATA/lspet and ../shared/data/lspet.

example: PYTHON=.venv/bin/python packaging/arm64/test.sh"
source=$(cd "$(dirname "$0")/../.." && pwd)
. "$source/packaging/common.sh"

case ${1:-} in
  -h | --help) echo "$usage" && exit ;;
  -*) die "there is no option $1; see --help." ;;
esac
[ $# -le 2 ] || die "a folder and a model are taken, not $# arguments; see --help."
cache=${1:-$(default_cache)}
model=${2:-}
[ -z "$model" ] || [ -f "$model" ] || die "there is no file $model; leave it out to export the bundled checkpoint."
[ -z "$model" ] || model=$(realpath "$model")
python=$(command -v "${PYTHON:-python3}") || die "there is no $PYTHON; name a Python in PYTHON."
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") # a link out of a virtual environment must stay one
people=8
frames=3

step() {
  echo "[$SECONDS s] $1"
}

step "userland"
need cmake cmake
need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
PYTHON=$python "$source/packaging/arm64/build_userland.sh" "$cache"
cache=$(cd "$cache" && pwd)
run=("$source/packaging/arm64/run.sh" "$cache")
# Away from the clone, where half of the package lies in the way of the installed one.
mkdir -p "$cache/out"
cd "$cache/out"
host() {
  "$python" -c "from bihrnet_edge.cli import main; main()" "$@"
}
host --version >/dev/null || die "$python has no bihrnet-edge; install it there with the extras export and eval."

step "wheel"
rm -rf "$cache/dist" "$cache/app"
PYTHON=$python "$source/packaging/build_wheels.sh" "$cache/dist" aarch64
"$python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
  --target "$cache/app" --only-binary=:all: --platform manylinux_2_27_aarch64 --python-version 3.11 "$cache"/dist/*.whl

step "native tests"
rm -rf "$cache/native" # another clone may have built there
cmake -S "$source" -B "$cache/native" -DBIHRNET_NATIVE_TESTS=ON \
  -DCMAKE_TOOLCHAIN_FILE="$source/packaging/aarch64-linux-gnu.cmake" \
  -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64;-L;$cache/sysroot" >/dev/null
cmake --build "$cache/native" --parallel "$(nproc)" >"$cache/out/build.log" ||
  { cat "$cache/out/build.log" >&2 && die "the native tests were not built; see above."; }
(cd "$cache/native" && ctest --output-on-failure)

if [ -z "$model" ]; then
  model=$cache/model/bihrnet-small-lsp.lce.tflite
  sources=("$source/export" "$source/bihrnet_edge")
  if [ ! -f "$model" ] || [ -n "$(find "${sources[@]}" -name '*.p[yt]' -newer "$model" -print -quit)" ]; then
    step "export"
    host export bihrnet-small-lsp --target lce-arm64 --out "$cache/model" >/dev/null
  fi
fi

step "bench"
"${run[@]}" bihrnet-edge bench "$model" --runs 3 --warmup 1 --json bench.json
step "bench over ssh"
need sshd openssh-server
need ssh openssh-client
server=$(mktemp -d)
sshd=
stop() {
  [ -z "$sshd" ] || kill "$sshd"
  rm -rf "$server"
}
trap stop EXIT
for key in host user; do
  ssh-keygen -q -t ed25519 -N "" -f "$server/$key"
done
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$server/tmp"
cat >"$server/sshd_config" <<EOF
Port $port
ListenAddress 127.0.0.1
HostKey $server/host
PidFile none
StrictModes no
AuthorizedKeysFile $server/user.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
SetEnv TMPDIR=$server/tmp
EOF
cat >"$server/ssh_config" <<EOF
Host userland
  HostName 127.0.0.1
  Port $port
  User $(id -un)
  IdentityFile $server/user
  IdentitiesOnly yes
  UserKnownHostsFile $server/known
  StrictHostKeyChecking accept-new
EOF
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd # which sshd wants as root, and boot makes
"$(command -v sshd)" -D -e -f "$server/sshd_config" 2>"$server/log" &
sshd=$!
for _ in $(seq 50); do
  grep -qs "listening" "$server/log" && break
  sleep 0.1
done
host bench "$model" --runs 3 --warmup 1 --json ssh-bench.json --ssh userland --ssh-config "$server/ssh_config" \
  --remote-python "$cache/sysroot/usr/bin/python3" --wheel "$cache"/dist/*.whl
[ -z "$(ls -A "$server/tmp")" ] || die "bench --ssh left $(ls -A "$server/tmp") behind."

step "predict"
"$python" -c 'import PIL.Image, skimage.data; PIL.Image.fromarray(skimage.data.astronaut()).save("person.png")'
predict=(predict "$model" person.png --box "60,0,330,500" --box "100,20,200,300")
host "${predict[@]}" --runtime lce --out host >/dev/null
"${run[@]}" bihrnet-edge "${predict[@]}" --out arm
compare=(host/person.keypoints.json arm/person.keypoints.json)

step "predict a video"
"${run[@]}" python3 - "$frames" <<'EOF'
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from PIL import Image
from bihrnet_edge.runtimes.video.writer import VideoWriter

picture = np.asarray(Image.open("person.png").resize((128, 128)))
writer = VideoWriter(Path("clip.mp4"), picture.shape[:2], Fraction(1, 30), Fraction(30))
for index in range(int(sys.argv[1])):
    writer.write(np.roll(picture, index, axis=1), Fraction(index, 30))
writer.finish()
EOF
"${run[@]}" bihrnet-edge predict "$model" clip.mp4 --out arm --csv
for file in arm/clip.pose.mp4 arm/clip.keypoints.csv; do
  [ -s "$file" ] || die "predict wrote no $file."
done

step "inspect"
inspect=(inspect "$model" --html inside.html)
host "${inspect[@]}" --no-time --json host-inspect.json >/dev/null
"${run[@]}" bihrnet-edge "${inspect[@]}" --json arm-inspect.json >/dev/null
cmp host-inspect.json arm-inspect.json || die "inspect counts other layers there than here."
grep -q "kernels neon" inside.html || die "the delegate's steps were not timed there; see $cache/out/inside.html."

step "demo"
"$python" "$source/packaging/arm64/try_demo.py" person.png arm/person.keypoints.json -- \
  "${run[@]}" bihrnet-edge demo "$model"

for data in "${BIHRNET_DATA:-}" "$source/../shared/data"; do
  annotations=$data/lspet/person_keypoints_val.json
  [ -f "$annotations" ] || continue
  step "eval"
  evaluate=(eval "$model" --annotations "$annotations" --images "$data/lspet/images" --limit "$people")
  host "${evaluate[@]}" --runtime lce --json host-eval.json >/dev/null
  "${run[@]}" bihrnet-edge "${evaluate[@]}" --json arm-eval.json
  compare+=(host-eval.json arm-eval.json)
  break
done
[ ${#compare[@]} -gt 2 ] || echo "no lspet data: eval was left out"

for bench in bench.json ssh-bench.json; do
  "$python" "$source/packaging/arm64/compare.py" "$bench" "${compare[@]}" \
    --video arm/clip.keypoints.json --frames "$frames"
done
step "done"
