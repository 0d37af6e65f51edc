"""``bench --ssh``: a bench on another machine, of which nothing stays there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.zoo import bundled_names
from bihrnet_edge.runtimes.bench import agent
from bihrnet_edge.runtimes.bench.report import BenchReport, parse_report
from bihrnet_edge.runtimes.bench.wheel import choose_wheels

#: Asks for nothing, gives up on a host that does not answer, and notices a dead connection after 15 s.
_OPTIONS = (
    "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
    "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
)  # fmt: skip
_TOO_OLD = 97
#: Reads the agent's length and then the agent; nothing in it means anything to a login shell of any kind.
_START = (
    f"import sys; sys.version_info < (3, 10) and sys.exit({_TOO_OLD}); "
    "exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
)
_CHUNK = 1 << 20
#: Of the free space there: wheel, what it unpacks to, and a reserve. A venv with the dependencies takes more.
_SPACE = 4
_PATIENCE_S = 15.0
_FAILED, _NOT_FOUND, _NOT_RUN = 255, 127, 126


@dataclass(frozen=True)
class Remote:
    """Another machine.

    Attributes:
        host: as ``ssh`` takes it: ``user@host``, ``ssh://user@host:port`` or a name of its configuration.
        python: the Python there.
        config: in place of ``~/.ssh/config``.
        wheels: of bihrnet-edge for that machine, and of what else is to be had without an index.
    """

    host: str
    python: str = "python3"
    config: Path | None = None
    wheels: tuple[Path, ...] = ()


def bench_there(
    remote: Remote, artifacts: Sequence[str], options: Sequence[str], stage: Callable[[str], None]
) -> BenchReport:
    """Copy the package and the artifacts, run ``bench`` there and bring its result back.

    The other side removes its folder when it has answered, and when the connection ends.

    Args:
        remote: where.
        artifacts: files here, or names of bundled checkpoints.
        options: of ``bench``, as on its command line.
        stage: called with what is being done.

    Raises:
        UserError: there is no ssh here, no connection, no Python or no space there, or the bench failed.
    """
    if shutil.which("ssh") is None:
        raise UserError(
            "--ssh needs the program ssh, which is not installed here; on Debian: apt install openssh-client."
        )
    if remote.host.startswith("-"):  # ssh would take it for an option
        raise UserError(f"--ssh is {remote.host!r}; give user@host.")
    names = _names(artifacts)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage(f"connect to {remote.host}")
        connection = stack.enter_context(_connected(remote))
        there = connection.next("hello")
        if there["bits"] != 64:
            raise UserError(f"{remote.host}: Python there is of {there['bits']} bits; a 64-bit system is needed.")
        wheels = choose_wheels(list(remote.wheels), folder, there["system"], there["machine"])
        files = [(f"wheels/{wheel.name}", wheel) for wheel in wheels]
        files += [(name, Path(model)) for model, name in names.items() if name != model]
        total = sum(path.stat().st_size for _, path in files)
        if there["free_bytes"] < _SPACE * total:
            raise UserError(
                f"{remote.host}: {there['folder']} there has {there['free_bytes'] / 1e6:.0f} MB free, and "
                f"{_SPACE * total / 1e6:.0f} are needed; make room."
            )
        stage(f"copy {total / 1e6:.1f} MB")
        connection.send(
            {"wheels": [name for name, _ in files[: len(wheels)]], "arguments": [*names.values(), *options]}, files
        )
        result = connection.next("result", stage)
        connection.next("end")
    report = parse_report(result, f"what {remote.host} sent")
    models = {name: model for model, name in names.items()}
    results = tuple(replace(one, model=models.get(one.model, one.model)) for one in report.results)
    return replace(report, results=results)


def _names(artifacts: Sequence[str]) -> dict[str, str]:
    """Every artifact's path there; a bundled name stays. Files keep their names, each in a folder of its own."""
    bundled = bundled_names()
    for model in artifacts:
        if model not in bundled and not Path(model).is_file():
            raise UserError(f"model {model} does not exist; check the path.")
    return {model: model if model in bundled else f"{n}/{Path(model).name}" for n, model in enumerate(artifacts)}


class _Connection:
    """A running ``ssh`` and the agent behind it."""

    def __init__(self, host: str, python: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._host, self._python, self._process, self._log = host, python, process, log
        self._met = False

    def send(self, task: dict[str, Any], files: Sequence[tuple[str, Path]]) -> None:
        """A line, and the files behind it."""
        sizes = [(name, path.stat().st_size) for name, path in files]
        self._write(json.dumps(task | {"files": sizes}).encode() + b"\n")
        for (_, size), (_, path) in zip(sizes, files, strict=True):
            with path.open("rb") as file:
                while size:
                    if not (data := file.read(min(size, _CHUNK))):
                        raise UserError(f"{path} became shorter while it was copied; try again.")
                    self._write(data)
                    size -= len(data)

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the other side says why, or ssh does
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def next(self, key: str, stage: Callable[[str], None] | None = None) -> Any:
        """What the agent says under ``key``; stages go to ``stage``, an error is raised."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode("utf-8", "replace")
            if not text.startswith(agent.MARK):
                continue  # a login's greeting
            said = json.loads(text[len(agent.MARK) :])
            self._met = True
            if "error" in said:
                raise UserError(f"{self._host}: {said['error']}.")
            if key in said:
                return said[key]
            if stage is not None and "stage" in said:
                stage(f"{said['stage']} on {self._host}")
        raise UserError(self._why())

    def start(self, program: bytes) -> None:
        """The agent's text."""
        self._write(b"%d\n%b" % (len(program), program))

    def _why(self) -> str:
        """The sentence for a connection that ended."""
        code = self._process.wait()
        self._log.seek(0)
        said = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        last = (said[-1] if said else f"ssh ended with {code}").rstrip(".")
        if self._met:
            return (
                f"the connection to {self._host} was lost ({last}); what was there removes itself when the other side "
                "notices. Run it again."
            )
        if code in (_NOT_FOUND, _NOT_RUN):
            return f"{self._host} has no {self._python} ({last}); install Python 3.10 or newer, or name one."
        if code == _TOO_OLD:
            return f"{self._host}: {self._python} there is older than Python 3.10; name a newer one in --remote-python."
        text = " ".join(said)
        for pattern, meaning in _MEANINGS:
            if re.search(pattern, text):
                return f"{self._host} {meaning.format(host=self._host)} ({last})."
        return f"ssh to {self._host} failed ({last})."


#: What ssh says to what it means, the first that fits.
_MEANINGS = (
    ("Could not resolve hostname", "is not known; check the name"),
    ("Host key verification failed", "has a key that is not known; log in once by hand: ssh {host}"),
    ("Permission denied", "lets nobody in without a password; set up a key: ssh-copy-id {host}"),
    (
        "refused|timed out|No route|unreachable|reset by|closed by",
        "cannot be reached; check that it is on and runs an ssh server",
    ),
    ("configuration|config", "cannot be reached: ssh does not take its configuration"),
)


@contextmanager
def _connected(remote: Remote) -> Iterator[_Connection]:
    command = ["ssh", *_OPTIONS]
    if remote.config is not None:
        command += ["-F", str(remote.config)]
    command += [remote.host, f"exec {shlex.quote(remote.python)} -u -c {shlex.quote(_START)}"]
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C reaches it as the end of its input, upon which the other side tidies up.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            connection = _Connection(remote.host, remote.python, process, log)
            connection.start(Path(agent.__file__).read_bytes())
            yield connection
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
