"""``bench --adb`` with an adb that runs the phone's commands in a folder, and a benchmark_model that prints what
TFLite's prints. No phone takes part: what is tested is what is sent, what is read, and what is left."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.bench.adb import Phone, bench_phone, parse_output
from bihrnet_edge.runtimes.bench.process import Entry
from bihrnet_edge.runtimes.bench.report import BenchReport, parse_report

Make = Callable[..., Path]

ADB = """#!{python} -IS
import json, os, shutil, subprocess, sys
root, arguments = {root!r}, sys.argv[1:]
with open(root + "/calls", "a") as file:
    file.write(json.dumps(arguments) + "\\n")
if arguments[0] == "-s":
    arguments = arguments[2:]
def there(text):
    return text.replace("/data/local/tmp", root + "/data/local/tmp")
def fail(said):
    sys.exit(open(said).read())
if os.path.exists(root + "/refuse-" + arguments[0]):
    fail(root + "/refuse-" + arguments[0])
if arguments[0] == "get-state":
    print("device")
elif arguments[0] == "push":
    shutil.copy(arguments[1], there(arguments[2]))
    print(arguments[1] + ": 1 file pushed, 0 skipped.")
elif arguments[0] == "shell":
    path = root + "/bin:" + os.environ["PATH"]
    done = subprocess.run(["sh", "-c", there(arguments[1])], env=dict(os.environ, PATH=path), stdout=subprocess.PIPE)
    sys.stdout.write(done.stdout.decode().replace(root + "/data/local/tmp", "/data/local/tmp"))
    sys.exit(done.returncode)
"""
#: Before 2.17 the last line of statistics had no percentiles.
OLD, NEW = "", " p5={p5} median={median} p95={p95}"
OUTPUT = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [50]
INFO: Num threads: [2]
INFO: Graph: [0.tflite]
INFO: External delegate path: [libbihrnet_lce.so]
INFO: Loaded model 0.tflite
INFO: EXTERNAL delegate created.
INFO: Explicitly applied EXTERNAL delegate, and the model graph will be completely executed by the delegate.
INFO: The input model file size (MB): 1.0001
INFO: Initialized session in 17.187ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=9 first=61234 curr=57000 min=56000 max=61234 avg=57777.7 std=1500

INFO: Running benchmark for at least {count} iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count={count} first={first} curr={curr} min={min} max={max} avg={avg} std=120{percentiles}

INFO: Inference timings in us: Init: 17187, First inference: 61234, Warmup (avg): 57777.7, Inference (avg): {avg}
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
INFO: Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
"""
TOOL = """#!{python} -IS
import os, sys, time
sys.stderr.write("benchmark_model " + " ".join(sys.argv[1:]) + "\\n")
options = dict(part.lstrip("-").split("=") for part in sys.argv[1:])
assert os.path.isfile(options["graph"])
if "external_delegate_path" in options and not os.path.isfile(options["external_delegate_path"]):
    sys.exit("ERROR: Failed to load the delegate")
if os.path.exists({root!r} + "/slow"):
    time.sleep(60)
count, each = int(options["num_runs"]), 50000 / int(options["num_threads"])
values = dict(count=count, first=each, curr=each, min=each - 100, max=each + 100, avg="%.6g" % each)
values["percentiles"] = {percentiles!r}.format(p5=each - 50, median=each - 10, p95=each + 50)
print({output!r}.format(**values))
"""


class FakePhone:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        (root / "data/local/tmp").mkdir(parents=True)
        (root / "bin").mkdir()
        self.script("bin/adb", ADB.format(python=sys.executable, root=str(root)))
        self.script(
            "bin/getprop",
            "#!/bin/sh\\ncase $1 in ro.product.model) echo Pixel 8;; ro.soc.model) echo Tensor G3;; esac\n".replace(
                "\\n", "\n"
            ),
        )
        self.script("bin/dumpsys", f"#!/bin/sh\necho IsStatusOverride: false\ncat {root}/thermal 2>/dev/null\n")
        self.script("bin/taskset", '#!/bin/sh\nshift; exec "$@"\n')
        self.tool = self.write_tool(NEW)
        self.delegate = root / "libbihrnet_lce.so"
        self.delegate.write_text("for Android")
        monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")

    def script(self, name: str, text: str) -> Path:
        path = self.root / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def write_tool(self, percentiles: str) -> Path:
        values = {"root": str(self.root), "percentiles": percentiles, "output": OUTPUT}
        return self.script("benchmark_model", TOOL.format(python=sys.executable, **values))

    def refuse(self, command: str, said: str) -> None:
        (self.root / f"refuse-{command}").write_text(said)

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.root / "calls").read_text().splitlines()]

    def run(self, *models: Path, threads: tuple[int, ...] = (1,), runs: int = 10, **options: Any) -> BenchReport:
        entries = [Entry(str(model), None, count) for model in models for count in threads]
        serial = options.pop("serial", None)
        return bench_phone(Phone(self.tool, self.delegate, serial), entries, runs, 3, **options)

    def left(self) -> list[Path]:
        return list((self.root / "data/local/tmp").iterdir())


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePhone:
    return FakePhone(tmp_path, monkeypatch)


def refused(phone: FakePhone, *models: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        phone.run(*models, **options)
    return str(caught.value)


def test_turns_on_a_phone(phone: FakePhone, lce_model: tuple[Path, Any], make_tflite: Make) -> None:
    binary, peer = lce_model[0], make_tflite()
    done: list[tuple[int, int]] = []
    report = phone.run(
        binary, peer, threads=(1, 2), warmup=2, pin=[0, 2], serial="X", advance=lambda *counts: done.append(counts)
    )
    assert [(r.model, r.threads, r.delegate) for r in report.results] == [
        (str(binary), 1, "external"), (str(binary), 2, "external"), (str(peer), 1, None), (str(peer), 2, None),
    ]  # fmt: skip
    first, second, *_ = report.results
    assert (first.p50_ms, first.min_ms, first.runs, first.turns_ms) == (49.99, 49.9, 10, ((49.99,),) * 3)
    assert (first.load_ms, first.first_ms) == (17.187, 61.234)
    assert first.peak_rss_mib == pytest.approx(46.0859e6 / 2**20)
    assert second.ratio is not None
    assert second.ratio.value == pytest.approx(24.99 / 49.99)
    assert (report.machine.board, report.machine.cpu, report.tool) == ("Pixel 8", "Tensor G3", "benchmark_model")
    assert done == [(number, 12) for number in range(1, 13)]
    calls = phone.calls()
    assert all(call[:2] == ["-s", "X"] for call in calls)
    runs = [call[3] for call in calls if "--graph=" in call[-1]]
    assert all(command.startswith("taskset 5 /data/local/tmp/bihrnet-edge-") for command in runs)
    assert all(" --warmup_runs=2 --warmup_min_secs=0" in command for command in runs)
    assert ["--external_delegate_path=" in command for command in runs[:4]] == [True, True, False, False]
    assert [sum(f"--num_runs={count} " in command for command in runs) for count in (3, 4)] == [8, 4]
    assert sum("push" in call for call in calls) == 4  # the tool, the library, two models
    assert phone.left() == []
    assert parse_report(json.loads(json.dumps(report.to_dict())), "x").to_dict() == report.to_dict()


def test_without_percentiles_the_mean_counts(phone: FakePhone, make_tflite: Make) -> None:
    phone.write_tool(OLD)
    (result,) = phone.run(make_tflite()).results
    assert result.p50_ms == 50.0


def test_a_hot_phone(phone: FakePhone, make_tflite: Make) -> None:
    (phone.root / "thermal").write_text("Thermal Status: 2\n")
    assert "Android's thermal status was 2" in " ".join(phone.run(make_tflite()).warnings)
    (phone.root / "thermal").write_text("Thermal Status: 0\n")
    assert phone.run(make_tflite()).warnings == []


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("error: no devices/emulators found", "no phone is connected"),
        ("error: more than one device/emulator", "name one with --serial"),
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "confirm the question"),
        ("error: device offline", "unplug it"),
        ("error: device 'X' not found", "there is no such phone"),
        ("something else", "the phone does not answer"),
    ],
)
def test_phones_that_do_not_answer(said: str, meant: str, phone: FakePhone, make_tflite: Make) -> None:
    phone.refuse("get-state", said)
    assert meant in refused(phone, make_tflite())


def test_other_failures(phone: FakePhone, make_tflite: Make, make_onnx: Make, lce_model: tuple[Path, Any]) -> None:
    model = make_tflite()
    assert "runs .tflite files on TFLite, not" in refused(phone, make_onnx())
    phone.script("benchmark_model", "#!/bin/sh\necho ERROR: it is broken >&2; exit 1\n")
    assert "benchmark_model failed on the phone" in refused(phone, model)
    phone.script("benchmark_model", "#!/bin/sh\necho nothing\n")
    assert "printed no times that can be read" in refused(phone, model)
    phone.refuse("push", "adb: error: failed to copy 'x' to 'y': remote write failed: No space left on device")
    assert "was not copied to the phone (adb: error: failed to copy" in refused(phone, model)
    assert phone.left() == []
    phone.delegate.unlink()
    assert "--delegate" in refused(phone, model)
    with pytest.raises(UserError, match="give our library, built for Android"):
        bench_phone(Phone(phone.tool), [Entry(str(lce_model[0]))], 1, 1)


def test_a_phone_that_is_unplugged(phone: FakePhone, make_tflite: Make) -> None:
    def unplug(done: int, total: int) -> None:
        if done == 2:
            phone.refuse("shell", "error: device 'X' not found")

    said = refused(phone, make_tflite(), advance=unplug)
    assert "the connection to the phone was lost (error: device 'X' not found); /data/local/tmp/bihrnet-edge-" in said


def test_no_adb_here(phone: FakePhone, make_tflite: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(phone.root))
    assert "--adb needs the program adb, which is not installed here" in refused(phone, make_tflite())


def test_the_command_and_an_interruption(phone: FakePhone, make_tflite: Make) -> None:
    command = [sys.executable, "-m", "bihrnet_edge", "bench", make_tflite(), "--adb", "--benchmark-model", phone.tool]
    done = subprocess.run([*command, "--runs", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Pixel 8" in done.stdout
    assert "49.99" in done.stdout
    (phone.root / "slow").touch()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not any("--graph=" in call[-1] for call in phone.calls()[-1:]) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert "interrupted" in running.communicate(timeout=300)[1]
    assert running.returncode == 130
    assert phone.left() == []
    done = subprocess.run(command[:-2], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "give the one for the phone as --benchmark-model" in done.stderr


@given(st.lists(st.floats(1, 1e7), min_size=1, max_size=9), st.integers(1, 10**6))
def test_any_times_are_read(times: list[float], count: int) -> None:
    shown = [f"{value:.6g}" for value in times]  # as C++ prints a double, 2.95034e+06 among them
    values = {"first": shown[0], "curr": shown[-1], "min": shown[0], "max": shown[0], "avg": shown[-1]}
    run = parse_output(OUTPUT.format(count=count, percentiles="", **values))
    assert run.count == count
    np.testing.assert_allclose([run.typical_ms, run.min_ms], [float(shown[-1]) / 1000, float(shown[0]) / 1000])


@given(st.text())
def test_other_output_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="printed no times"):
        parse_output(text)
