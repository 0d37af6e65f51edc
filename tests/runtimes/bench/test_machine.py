"""A Raspberry Pi's files in a folder stand in for the machine; those of this one are read, too."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from bihrnet_edge.runtimes.bench import machine as module
from bihrnet_edge.runtimes.bench.machine import (
    Conditions,
    Machine,
    Moment,
    clock_files,
    highest_clock,
    judge,
    read_machine,
    read_moment,
    read_temperature,
    read_throttled,
)


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    files = {
        "proc/cpuinfo": "".join(f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n" for n in range(4)),
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "proc/meminfo": "MemTotal:        3884000 kB\nMemFree:  1 kB\n",
        "proc/stat": "cpu  1000 200 300 9000 50 0 50 7 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n",
        "proc/vmstat": "pgpgin 5\npswpin 12\npswpout 3\n",
        "sys/class/thermal/thermal_zone0/temp": "61342\n",
        "sys/class/thermal/thermal_zone1/temp": "40000\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "110000\n",
        "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive\n",
        "sys/class/thermal/thermal_zone0/trip_point_1_temp": "80000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    }
    for n in range(4):
        files[f"sys/devices/system/cpu/cpu{n}/cpufreq/cpuinfo_max_freq"] = "1800000\n"
        files[f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor"] = "ondemand\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_raspberry_pi(pi: Path) -> None:
    machine = read_machine(pi)
    assert machine.cpu == "4× Cortex-A72"
    assert machine.name.startswith("Raspberry Pi 4 Model B Rev 1.4, 4× Cortex-A72 (")
    assert (machine.max_mhz, machine.governors) == ((1800.0,), ("ondemand",))
    assert machine.memory_mib == pytest.approx(3793, abs=1)
    assert Machine.from_dict(machine.to_dict()) == machine
    moment = read_moment(pi)
    assert (moment.temperature_c, moment.trip_c, moment.throttled) == (61.342, 80.0, 0x50000)
    tick = os.sysconf("SC_CLK_TCK")
    assert (moment.busy_s, moment.steal_s, moment.swapped) == (1550 / tick, 7 / tick, 12)
    assert highest_clock(clock_files(pi)) == 1500.0


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    machine, moment = read_machine(tmp_path), read_moment(tmp_path)
    assert machine.cpu
    assert machine.cores >= 1
    assert (machine.max_mhz, machine.governors, machine.board) == ((), (), "")
    own = moment.own_s
    assert own > 0
    assert moment == Moment(own_s=own)
    assert highest_clock(clock_files(tmp_path)) is None
    conditions = judge(machine, moment, moment, Conditions(seconds=1.0), [1], None)
    assert conditions.warnings == []


def test_damaged_files_are_as_good_as_none(pi: Path) -> None:
    for path in [*pi.rglob("*_freq"), *pi.rglob("temp"), pi / "proc/stat", *pi.rglob("get_throttled")]:
        path.write_bytes(b"\xff\xfe nonsense")
    moment = read_moment(pi)
    assert (moment.temperature_c, moment.throttled, moment.busy_s) == (None, None, None)
    assert read_machine(pi).max_mhz == ()
    assert highest_clock(clock_files(pi)) is None


def test_vcgencmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "_FIRMWARE", "sys/none")
    assert read_throttled() == 0x50005
    program.write_text("#!/bin/sh\nexit 1\n")
    assert read_throttled() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_this_machine() -> None:
    machine, moment = read_machine(), read_moment()
    assert machine.cpu
    assert machine.memory_mib is not None
    assert machine.memory_mib > 100
    assert machine.packages["bihrnet-edge"]
    assert moment.busy_s is not None
    assert moment.busy_s > 0


def warned(pi: Path, before: dict[str, Any], after: dict[str, Any], threads: int = 1, **met: Any) -> str:
    conditions = Conditions(seconds=10.0, **met)
    found = judge(read_machine(pi), Moment(**before), Moment(**after), conditions, [threads], 4)
    return " ".join(found.warnings)


def test_warnings(pi: Path) -> None:
    quiet = {"clock_mhz": [1800.0, 1799.0], "temperature_c": [50.0, 61.0]}
    calm = {"throttled": 0, "busy_s": 100.0, "own_s": 1.0, "steal_s": 0.0, "swapped": 3, "throttle_events": 5}
    later = calm | {"busy_s": 110.1, "own_s": 11.0}
    assert warned(pi, calm, later, **quiet) == ""
    assert "5 threads on 4 cores" in warned(pi, calm, later, 5, **quiet)
    assert "1400 to 1800 MHz of 1800 (governor: ondemand)" in warned(
        pi, calm, later, clock_mhz=[1800.0, 1400.0], temperature_c=[]
    )
    assert "1500 to 1500 MHz of 1800" in warned(pi, calm, later, clock_mhz=[1500.0] * 3)
    assert "the governor is ondemand" in warned(pi, calm, later)
    assert "reached 79 °C, and slows down at 80 °C" in warned(pi, calm, later, **quiet | {"temperature_c": [79.0]})
    assert "other programs kept 1.50 of" in warned(pi, calm, later | {"busy_s": 125.0}, **quiet)
    assert "the hypervisor took 2.00 of" in warned(pi, calm, later | {"steal_s": 20.0}, **quiet)
    assert "memory was swapped" in warned(pi, calm, later | {"swapped": 4}, **quiet)
    assert "thermal throttling" in warned(pi, calm, later | {"throttle_events": 6}, **quiet)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0, 0x50000, "under-voltage, throttled"),  # it came and went meanwhile
        (0x50000, 0x50000, ""),  # it was long ago
        (0x50005, 0x50005, "under-voltage, throttled"),  # it is now, and was from the start
        (0, 0x20002, "clock capped"),
        (None, 0x80008, "soft temperature limit"),
        (0, None, ""),
    ],
)
def test_throttling_of_a_raspberry_pi(pi: Path, before: int | None, after: int | None, said: str) -> None:
    text = warned(pi, {"throttled": before}, {"throttled": after}, clock_mhz=[1800.0])
    assert (f"slowed itself down ({said})" in text) if said else (text == "")


def test_the_hottest_zone_counts(pi: Path) -> None:
    (pi / "sys/class/thermal/thermal_zone1/temp").write_text("90000")
    assert read_temperature(pi) == (90.0, None)
