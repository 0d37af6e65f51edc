"""The other end of ``bench --ssh``: sent as text to a remote Python, which has nothing but its standard library.

It says what it is, takes files on standard input, installs, runs, sends the result back and removes its folder. When
standard input ends, the one who asked has gone: it stops and removes the folder, too. Whatever it says is a line of
JSON behind MARK, since a login may print what it likes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

MARK = "bihrnet-edge-agent "
_CHUNK = 1 << 20
_RUN = "import sys; sys.path[:] = [p for p in sys.path if p]; from bihrnet_edge.cli import main; main()"
#: What is still running when it is stopped gets so long to write its last file.
_REMOVE_S = 5.0


class AgentError(Exception):
    """One sentence for the one who asked, without its full stop."""


def say(**values: Any) -> None:
    """A line to the one who asked."""
    print(MARK + json.dumps(values), flush=True)


class Agent:
    """One run, in a folder of its own."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._gone = threading.Event()

    def run(self) -> None:
        """Everything from the greeting to the result.

        Raises:
            AgentError: something is missing here, or went wrong.
        """
        base = tempfile.gettempdir()
        hello = {
            "machine": platform.machine(),
            "system": platform.system(),
            "bits": 8 * struct.calcsize("P"),
            "free_bytes": shutil.disk_usage(base).free,
            "folder": base,
        }
        say(hello=hello)
        if not (line := sys.stdin.buffer.readline()):  # the other side did not like what it heard
            return
        task = json.loads(line)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="bihrnet-edge-bench-"))
            try:
                self._receive(task["files"])
                threading.Thread(target=self._watch, daemon=True).start()
                python, environment = self._install(task["wheels"])
                self._bench(python, environment, task["arguments"])
            finally:
                self._remove()
        except OSError as error:
            reason = "there is no space left" if error.errno == errno.ENOSPC else str(error.strerror or error)
            raise AgentError(f"{reason} in {base} there") from error

    def _receive(self, files: list[tuple[str, int]]) -> None:
        for name, size in files:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while size:
                    if not (data := sys.stdin.buffer.read(min(size, _CHUNK))):
                        raise AgentError("the connection ended while files were copied")
                    file.write(data)
                    size -= len(data)

    def _watch(self) -> None:
        while os.read(0, 1):  # nothing comes after the files, so that no buffer holds any of it
            pass
        self._gone.set()
        self._stop()

    def _stop(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)

    def _call(self, command: list[str], environment: dict[str, str]) -> tuple[int, str]:
        """Exit code and standard error of a program, which ends when the other side goes."""
        if self._gone.is_set():
            raise AgentError("the connection ended")
        with (self._folder / "err").open("w+") as said:
            self._child = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=said, start_new_session=True,
            )  # fmt: skip
            if self._gone.is_set():  # in the meantime
                self._stop()
            code = self._child.wait()
            if self._gone.is_set():
                raise AgentError("the connection ended")
            said.seek(0)
            return code, said.read()

    def _install(self, wheels: list[str]) -> tuple[str, dict[str, str]]:
        """The Python to run and its environment: this one where it has what the wheel needs, else a venv's."""
        environment = os.environ | {"TMPDIR": str(self._folder), "PYTHONDONTWRITEBYTECODE": "1"}
        wheel = self._folder / wheels[0]
        if not missing(wheel):
            say(stage="unpack the wheel")
            site = self._folder / "site"
            with zipfile.ZipFile(wheel) as file:
                file.extractall(site)
            above = os.environ.get("PYTHONPATH")
            return sys.executable, environment | {"PYTHONPATH": f"{site}{os.pathsep}{above}" if above else str(site)}
        say(stage="make a virtual environment")
        venv = self._folder / "venv"
        make = [sys.executable, "-m", "venv", "--system-site-packages", str(venv)]
        # A pip that is there saves unpacking another, and Debian's python3-venv.
        own_pip = self._call([sys.executable, "-m", "pip", "--version"], environment)[0] == 0
        code, said = self._call([*make, "--without-pip"] if own_pip else make, environment)
        if code:
            reason = f"{sys.executable} makes no virtual environment there ({last_line(said)})"
            raise AgentError(f"{reason}; on Debian: sudo apt install python3-venv")
        python = str(venv / "bin" / "python")
        if sys.prefix != sys.base_prefix:  # a virtual environment itself, whose packages the new one does not see
            above = "\n".join(path for path in sys.path if path.endswith("site-packages"))
            for site in venv.glob("lib/python*/site-packages"):
                (site / "above.pth").write_text(f"{above}\n")
        say(stage="install the wheel")
        pip = [sys.executable, "-m", "pip", "--python", python] if own_pip else [python, "-m", "pip"]
        pip += ["install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"]
        code, said = self._call([*pip, "--find-links", str(wheel.parent), str(wheel)], environment)
        if code:
            if "No space left" in said:
                raise OSError(errno.ENOSPC, "")
            errors = "\n".join(line for line in said.splitlines() if line.startswith("ERROR"))
            raise AgentError(f"pip does not install the wheel there ({last_line(errors or said)})")
        return python, environment

    def _bench(self, python: str, environment: dict[str, str], arguments: list[str]) -> None:
        say(stage="bench")
        result = self._folder / "result.json"
        code, said = self._call([python, "-c", _RUN, "bench", *arguments, "--json", str(result)], environment)
        if code:
            raise AgentError(last_line(said).removeprefix("bihrnet-edge: ").rstrip("."))
        say(result=json.loads(result.read_text()))

    def _remove(self) -> None:
        self._stop()
        end = time.monotonic() + _REMOVE_S
        while self._folder.exists() and time.monotonic() < end:
            shutil.rmtree(self._folder, ignore_errors=True)
            time.sleep(0.05)


def last_line(text: str) -> str:
    """What a program said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def missing(wheel: Path) -> list[str]:
    """Packages that the wheel needs and this Python has not, or not in the version that it needs."""
    with zipfile.ZipFile(wheel) as file:
        name = next(name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        header = file.read(name).decode().partition("\n\n")[0]
    found = []
    for package, versions, marker in re.findall(r"^Requires-Dist: ([\w.-]+)([^;\n]*)(.*)$", header, re.M):
        if "extra ==" in marker:
            continue
        try:
            have = _numbers(metadata.version(package))
        except metadata.PackageNotFoundError:
            found.append(package)
            continue
        # Anything but these two bounds is pip's to judge.
        if not all(
            (sign == ">=" and have >= _numbers(bound)) or (sign == "<" and have < _numbers(bound))
            for sign, bound in re.findall(r"([<>=!~]+)\s*([^,\s)]+)", versions)
        ):
            found.append(package)
    return found


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]


def main() -> None:
    """Serve one run; whatever ends it, the folder goes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with contextlib.suppress(BrokenPipeError):
        try:
            Agent().run()
        except AgentError as error:
            say(error=str(error))
        say(end=True)


if __name__ == "__main__":
    main()
