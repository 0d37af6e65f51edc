"""``bench --ssh`` against a real sshd on loopback, started with a key and a configuration of its own."""

from __future__ import annotations

import base64
import contextlib
import getpass
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.bench import ssh
from bihrnet_edge.runtimes.bench.agent import missing
from bihrnet_edge.runtimes.bench.ssh import Remote, bench_there
from bihrnet_edge.runtimes.bench.wheel import choose_wheels, pack_installed

Make = Callable[..., Path]
FEW = ["--runs", "4", "--rounds", "2", "--warmup", "0"]


class Server:
    """An sshd, and the configuration with which ssh reaches it as ``there``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
        if program is None or shutil.which("ssh") is None:
            pytest.skip("there is no sshd (openssh-server) to test with")
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which it wants as root, and boot makes
        for name in ("host", "user", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.temporary = folder / "remote-tmp"
        self.temporary.mkdir()
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        key = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"UsePAM no\nSetEnv TMPDIR={self.temporary}\n"
        )
        self.config = self.write_config("ssh_config")
        self.log = (folder / "sshd.log").open("w+")
        self.process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=self.log)
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        self.log.seek(0)
        pytest.skip(f"sshd does not start here: {self.log.read().strip()}")

    def write_config(self, name: str, key: str = "user", known: str = "known", port: int | None = None) -> Path:
        path = self.folder / name
        path.write_text(
            f"Host there\n  HostName 127.0.0.1\n  Port {port or self.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {self.folder}/{key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {self.folder}/{known}\n"
            "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
        )
        return path

    def remote(self, **values: object) -> Remote:
        return Remote(**{"host": "there", "python": sys.executable, "config": self.config} | values)  # type: ignore[arg-type]

    def left(self) -> list[str]:
        """What lies in the other side's temporary folder, once it has had the time to tidy up."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and any(self.temporary.iterdir()):
            time.sleep(0.05)
        return [path.name for path in self.temporary.iterdir()]

    def sessions(self) -> list[int]:
        """Processes of sshd's sessions."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("sshd"))
    yield server
    server.process.terminate()
    server.process.wait()
    server.log.close()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the installed package; skips where that is a clone."""
    try:
        return pack_installed(tmp_path_factory.mktemp("wheel"))
    except UserError as error:
        pytest.skip(str(error))


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.usefixtures("wheel")  # of the installed package, which goes there where no other is given
def test_runs_there_and_leaves_nothing(server: Server, make_tflite: Make, make_onnx: Make) -> None:
    models = [str(make_tflite()), str(make_onnx())]  # of one stem, in two folders
    stages: list[str] = []
    report = bench_there(server.remote(), models, ["--threads", "1,2", *FEW], stages.append)
    assert [(r.model, r.threads) for r in report.results] == [(model, count) for model in models for count in (1, 2)]
    assert all(r.p50_ms > 0 and r.runs == 4 for r in report.results)
    assert stages[0] == "connect to there"
    assert stages[-1] == "bench on there"
    assert server.left() == []


@pytest.mark.slow
def test_pip_installs_what_is_missing_there(server: Server, wheel: Path, make_tflite: Make, tmp_path: Path) -> None:
    """By a wheel that needs a package which only lies beside it."""
    needy, probe = tmp_path / wheel.name, tmp_path / "bench_probe-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(needy, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("METADATA"):
                data = data.replace(b"\nRequires-Dist: ", b"\nRequires-Dist: bench-probe>=1\nRequires-Dist: ", 1)
            if not name.endswith("RECORD"):
                new.writestr(name, data)
            else:
                new.writestr(name, "\n".join(f"{entry.split(',')[0]},," for entry in data.decode().splitlines()))
    with zipfile.ZipFile(probe, "w") as new:
        new.writestr("bench_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: bench-probe\nVersion: 1.0\n")
        new.writestr(
            "bench_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        new.writestr(
            "bench_probe-1.0.dist-info/RECORD",
            "".join(f"bench_probe-1.0.dist-info/{n},,\n" for n in ("METADATA", "WHEEL", "RECORD")),
        )
    assert missing(wheel) == []
    assert missing(needy) == ["bench-probe"]
    stages: list[str] = []
    offline = script(tmp_path, "python", f'PIP_NO_INDEX=1 PIP_FIND_LINKS= exec {sys.executable} "$@"')
    report = bench_there(
        server.remote(wheels=(needy, probe), python=str(offline)), [str(make_tflite())], FEW, stages.append
    )
    assert report.results[0].p50_ms > 0
    assert stages[-3:] == [f"{what} on there" for what in ("make a virtual environment", "install the wheel", "bench")]
    with pytest.raises(UserError, match=r"there: pip does not install the wheel there \(ERROR: .*bench-probe"):
        bench_there(server.remote(wheels=(needy,), python=str(offline)), [str(make_tflite())], FEW, lambda _: None)
    assert server.left() == []


def refused(remote: Remote, model: Path, options: list[str] = FEW) -> str:
    with pytest.raises(UserError) as caught:
        bench_there(remote, [str(model)], options, lambda _: None)
    return str(caught.value)


def test_connections_that_fail(server: Server, make_tflite: Make, tmp_path: Path) -> None:
    model = make_tflite()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]  # bound, and nobody listens
        said = refused(server.remote(config=server.write_config("closed", port=port)), model)
    assert said.startswith("there cannot be reached; check that it is on and runs an ssh server (ssh: connect to host")
    said = refused(server.remote(config=server.write_config("stranger_config", key="stranger")), model)
    assert said.startswith("there lets nobody in without a password; set up a key: ssh-copy-id there (")
    (server.folder / "nobody").write_text("")
    said = refused(server.remote(config=server.write_config("unknown_config", known="nobody")), model)
    assert said.startswith("there has a key that is not known; log in once by hand: ssh there (")
    assert refused(Remote("user@no.such.host.invalid"), model).startswith(
        "user@no.such.host.invalid is not known; check"
    )
    assert "give user@host" in refused(Remote("-oProxyCommand=touch pwned"), model)
    assert "cannot be reached: ssh does not take its configuration" in refused(
        server.remote(config=tmp_path / "none"), model
    )


def test_no_ssh_here(make_tflite: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(Remote("there"), make_tflite()).startswith(
        "--ssh needs the program ssh, which is not installed here"
    )


def test_machines_that_lack_something(server: Server, wheel: Path, make_tflite: Make, tmp_path: Path) -> None:
    model = make_tflite()
    assert refused(server.remote(python="/no/python"), model).startswith("there has no /no/python (")
    old = script(
        tmp_path,
        "python3.9",
        f"exec {sys.executable} -c 'import sys; sys.version_info = (3, 9); exec(sys.argv[1])' \"$3\"",
    )
    assert "is older than Python 3.10" in refused(server.remote(python=str(old)), model)
    # A Python without ensurepip, as Debian's is without python3-venv, and without the dependencies.
    hide = f'PYTHONPATH="$(dirname "$0")/hide" exec {sys.executable} -S "$@"'
    bare = script(tmp_path, "bare-python", hide)
    (tmp_path / "hide" / "venv").mkdir(parents=True)
    (tmp_path / "hide" / "venv" / "__main__.py").write_text("import sys; sys.exit('ensurepip is not available')")
    (tmp_path / "hide" / "venv" / "__init__.py").write_text("")
    said = refused(server.remote(python=str(bare), wheels=(wheel,)), model)
    assert "makes no virtual environment there (ensurepip is not available); on Debian: sudo apt install" in said
    assert server.left() == []


def test_a_full_disk_there(
    server: Server, wheel: Path, make_tflite: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*mount, f"mount -t tmpfs none {tmp_path}"], capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    inside = f'mount -t tmpfs -o size=600k none {server.temporary} && exec {sys.executable} "$@"'
    small = script(tmp_path, "small-python", f"exec {' '.join(mount)} '{inside}' sh \"$@\"")
    remote, model = server.remote(python=str(small), wheels=(wheel,)), make_tflite()
    assert "there has 1 MB free, and" in refused(remote, model)
    monkeypatch.setattr(ssh, "_SPACE", 0)  # as if something else had filled it in the meantime
    assert refused(remote, model) == f"there: there is no space left in {server.temporary} there."


def test_what_bench_says_there_is_said_here(server: Server, wheel: Path, make_tflite: Make, tmp_path: Path) -> None:
    remote = server.remote(wheels=(wheel,))
    assert refused(remote, make_tflite(), ["--pin", "4000"]).startswith("there: --pin names the CPU 4000")
    damaged = tmp_path / "half.tflite"
    damaged.write_bytes(make_tflite().read_bytes()[:99])
    assert refused(remote, damaged).startswith("there: 0/half.tflite is damaged")
    assert "none.tflite does not exist" in refused(remote, tmp_path / "none.tflite")
    assert server.left() == []


LONG = ["--runs", "100000000", "--rounds", "1000000", "--warmup", "0"]


def wait_for_bench(server: Server) -> None:
    """Until it is running there: the package is unpacked and its first profile folder made."""
    deadline = time.monotonic() + 300
    while not any(server.temporary.glob("bihrnet-edge-bench-*/tmp*")) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_connection_that_is_lost(server: Server, wheel: Path, make_tflite: Make) -> None:
    """Its session is killed while the bench runs: both sides notice."""

    def kill() -> None:
        wait_for_bench(server)
        for pid in server.sessions():
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    said = refused(server.remote(wheels=(wheel,)), make_tflite(), LONG)
    killer.join()
    assert said.startswith("the connection to there was lost (")
    assert server.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_asked_is_gone(number: int, server: Server, wheel: Path, make_tflite: Make, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    out.write_text("kept")
    asking = subprocess.Popen(
        [sys.executable, "-m", "bihrnet_edge", "bench", make_tflite(), *LONG, "--ssh", "there", "--json", out,
         "--ssh-config", server.config, "--remote-python", sys.executable, "--wheel", wheel],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_bench(server)
    asking.send_signal(number)
    said = asking.communicate(timeout=300)[1]
    assert asking.returncode == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    assert number != signal.SIGINT or "interrupted" in said
    assert server.left() == []
    assert out.read_text() == "kept"


def test_the_command(server: Server, wheel: Path, make_tflite: Make, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bihrnet_edge", "bench", make_tflite(), *FEW, "--ssh", "there", "--json", "b.json",
         "--html", "b.html", "--ssh-config", server.config, "--remote-python", sys.executable, "--wheel", wheel],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b.json").read_text())
    assert f"{report['results'][0]['p50_ms']:.2f}" in done.stdout
    assert "bench on there" in done.stderr
    assert (tmp_path / "b.html").is_file()


def test_wheels_for_another_machine(wheel: Path, tmp_path: Path) -> None:
    other = tmp_path / "bihrnet_edge-0.1.0-py3-none-manylinux_2_27_aarch64.whl"
    shutil.copy(wheel, other)
    assert choose_wheels([other], tmp_path, "Linux", "aarch64") == [other]
    with pytest.raises(UserError, match=r"is not for riscv64.*packaging/build_wheels\.sh"):
        choose_wheels([other], tmp_path, "Linux", "riscv64")
    with pytest.raises(UserError, match=r"Linux on riscv64, and this one is not; build one"):
        choose_wheels([], tmp_path, "Linux", "riscv64")
    (tmp_path / "no.whl").write_text("x")
    with pytest.raises(UserError, match=r"no\.whl is no wheel"):
        choose_wheels([tmp_path / "no.whl"], tmp_path, "Linux", "aarch64")


def test_the_packed_wheel_is_one(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = next(name for name in names if name.endswith("RECORD"))
        rows = [line.split(",") for line in archive.read(record).decode().splitlines()]
        assert sorted(name for name, *_ in rows) == sorted(names)
        for name, digest, size in rows[:-1]:
            data = archive.read(name)
            assert len(data) == int(size)
            assert digest == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    assert any(name.endswith("libbihrnet_lce.so") for name in names)
    assert not any("__pycache__" in name for name in names)
