"""What of a machine decides about a latency: processor, clock, governor, temperature, throttling, other programs.

Linux tells it in ``/proc`` and ``/sys``; a Raspberry Pi's firmware in ``get_throttled`` (``vcgencmd``, or the file of
its kernel driver). What is not there is left out.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path("/")
#: Raspberry Pi's bits of get_throttled; those of what has happened since it was switched on are 16 higher.
THROTTLED = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE_BOOT = 16
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
#: Part numbers of ARM's cores where /proc/cpuinfo has no name.
_ARM_PARTS = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD49: "Neoverse-N2", 0xD4D: "Cortex-A715", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720",
}  # fmt: skip
#: Where no trip point is told: a Raspberry Pi slows down from here on.
_HOT_C = 80.0
_NEAR_C = 2.0
#: Of the highest clock, below which it counts as slowed down; and how far it may wander.
_FULL_CLOCK, _CLOCK_SPREAD = 0.97, 1.03
#: CPUs that everybody else may keep busy, of those that there are.
_OTHERS = 0.05
_PACKAGES = ("bihrnet-edge", "ai-edge-litert", "onnxruntime", "numpy", "larq-compute-engine", "torch")


@dataclass(frozen=True)
class Machine:
    """What does not change while it is on.

    Attributes:
        cpu: the processor's name.
        board: e.g. ``Raspberry Pi 4 Model B Rev 1.4``; empty where it is not told.
        architecture, system: as ``uname`` has them.
        cores: that this process may use.
        max_mhz: the highest clock of each kind of core; empty where it is not told.
        governors: of the clocks, each once.
        memory_mib: of the machine.
        packages: installed versions of what takes part.
    """

    cpu: str
    board: str
    architecture: str
    system: str
    python: str
    cores: int
    max_mhz: tuple[float, ...]
    governors: tuple[str, ...]
    memory_mib: float | None
    packages: dict[str, str]

    @property
    def name(self) -> str:
        """For a person: board, processor and number of cores."""
        about = f"{self.cpu} ({self.architecture}), {self.cores} {'core' if self.cores == 1 else 'cores'}"
        return f"{self.board}, {about}" if self.board else about

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Machine:
        """Inverse of :meth:`to_dict`."""
        tuples = {"max_mhz": tuple(values["max_mhz"]), "governors": tuple(values["governors"])}
        return cls(**values | tuples)


@dataclass(frozen=True)
class Moment:
    """What changes. ``None`` is what the machine does not tell.

    Attributes:
        temperature_c: of the hottest zone.
        trip_c: at which that zone starts to slow the processor down.
        throttled: Raspberry Pi's bits.
        throttle_events: Intel's count since the start.
        busy_s, steal_s: CPU seconds that anything took, and that the hypervisor took away.
        own_s: CPU seconds of this process and of its children that have ended.
        swapped: pages read back from swap.
    """

    temperature_c: float | None = None
    trip_c: float | None = None
    throttled: int | None = None
    throttle_events: int | None = None
    busy_s: float | None = None
    steal_s: float | None = None
    own_s: float = 0.0
    swapped: int | None = None


@dataclass
class Conditions:
    """What a run met with, for the report.

    Attributes:
        seconds: it took.
        clock_mhz: after each round, of the fastest core; empty where it is not told.
        temperature_c: after each round, of the hottest zone.
        others_cpus, steal_cpus: how many CPUs everybody else and the hypervisor took on average.
        throttling: what slowed the processor down in the meantime.
        warnings: sentences about what spoils the figures.
    """

    seconds: float = 0.0
    clock_mhz: list[float] = field(default_factory=list)
    temperature_c: list[float] = field(default_factory=list)
    others_cpus: float | None = None
    steal_cpus: float | None = None
    throttling: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def read_machine(root: Path = ROOT) -> Machine:
    """Of this machine; ``root`` is where ``proc`` and ``sys`` lie."""
    clocks = (_number(path) for path in sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq")))
    governors = (_text(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    total = re.search(r"MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"))
    return Machine(
        cpu=_cpu(_text(root / "proc/cpuinfo")) or platform.processor() or platform.machine(),
        board=_text(root / "proc/device-tree/model"),
        architecture=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cores=len(usable_cpus()) or os.cpu_count() or 1,
        max_mhz=tuple(sorted({khz / 1000 for khz in clocks if khz})),
        governors=tuple(sorted({governor for governor in governors if governor})),
        memory_mib=int(total[1]) / 1024 if total else None,
        packages=_versions(),
    )


def usable_cpus() -> set[int]:
    """Numbers of the CPUs that this process may run on; empty where the system does not tell (macOS)."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _cpu(cpuinfo: str) -> str:
    if match := re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M):
        return match[1].strip()
    parts = [int(part, 16) for part in re.findall(r"^CPU part\s*:\s*(0x[0-9a-fA-F]+)$", cpuinfo, re.M)]
    names = [_ARM_PARTS.get(part, f"ARM part {part:#x}") for part in parts]
    return ", ".join(f"{names.count(name)}× {name}" for name in dict.fromkeys(names))


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def clock_files(root: Path = ROOT) -> list[Path]:
    """Files with a clock's frequency in kHz, one for all cores that share it."""
    policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy[0-9]*/scaling_cur_freq"))
    return policies or sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))


def highest_clock(files: Iterable[Path]) -> float | None:
    """MHz of the fastest core now, which is one that was at work."""
    return max((khz / 1000 for path in files if (khz := _number(path))), default=None)


def read_moment(root: Path = ROOT) -> Moment:
    """Now."""
    temperature, trip = read_temperature(root)
    events = [_number(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")]
    known = [int(count) for count in events if count is not None]
    busy, steal = _cpu_seconds(_text(root / "proc/stat"))
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    swapped = re.search(r"^pswpin (\d+)$", _text(root / "proc/vmstat"), re.M)
    return Moment(
        temperature, trip, read_throttled(root), sum(known) if known else None, busy, steal,
        sum(usage.ru_utime + usage.ru_stime for usage in own), int(swapped[1]) if swapped else None,
    )  # fmt: skip


def read_temperature(root: Path = ROOT) -> tuple[float | None, float | None]:
    """Of the hottest zone in °C, and where that zone starts to slow down."""
    hottest: tuple[float | None, float | None] = (None, None)
    for zone in root.glob("sys/class/thermal/thermal_zone[0-9]*"):
        value = _number(zone / "temp")
        if value is None or (hottest[0] is not None and value / 1000 <= hottest[0]):
            continue
        passive = (p for p in zone.glob("trip_point_*_type") if _text(p) == "passive")
        trips = (_number(p.with_name(p.name.replace("_type", "_temp"))) for p in passive)
        hottest = value / 1000, min((trip / 1000 for trip in trips if trip), default=None)
    return hottest


def read_throttled(root: Path = ROOT) -> int | None:
    """Raspberry Pi's bits, see :data:`THROTTLED`; None on anything else."""
    text = _text(root / _FIRMWARE)
    if not text and root == ROOT and (program := shutil.which("vcgencmd")):
        try:
            done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=5, check=False)
            text = done.stdout.strip().rpartition("=")[2]  # throttled=0x50000
        except (OSError, subprocess.TimeoutExpired):
            return None
    try:
        return int(text, 16)
    except ValueError:
        return None


def _cpu_seconds(stat: str) -> tuple[float | None, float | None]:
    match = re.search(r"^cpu +((?:\d+ ?)+)", stat, re.M)
    if not match:
        return None, None
    user, nice, system, _idle, _wait, irq, softirq, *rest = (*map(int, match[1].split()), 0, 0, 0, 0, 0, 0, 0)[:10]
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, rest[0] / tick


def judge(
    machine: Machine, before: Moment, after: Moment, conditions: Conditions, threads: Sequence[int], pinned: int | None
) -> Conditions:
    """Fill in what ``conditions`` says about a run between two moments.

    Args:
        machine, before, after: as they were read.
        conditions: with ``seconds``, clocks and temperatures.
        threads: of the contenders.
        pinned: number of CPUs that they were pinned to; None where they were not.
    """
    warn = conditions.warnings.append
    cores = pinned or machine.cores
    if max(threads) > cores:
        warn(f"{max(threads)} threads on {cores} {'core' if cores == 1 else 'cores'} wait for each other.")
    _judge_throttling(before, after, conditions)
    if clocks := conditions.clock_mhz:
        top = max(machine.max_mhz, default=max(clocks))
        if min(clocks) < _FULL_CLOCK * top or max(clocks) > _CLOCK_SPREAD * min(clocks):
            governor = f" (governor: {', '.join(machine.governors)})" if machine.governors else ""
            warn(
                f"the clock was {min(clocks):.0f} to {max(clocks):.0f} MHz of {top:.0f}{governor}; set the governor "
                "performance, and cool it."
            )
    elif set(machine.governors) - {"performance"}:
        warn(f"the governor is {', '.join(machine.governors)}, which changes the clock; set performance.")
    limit = after.trip_c or before.trip_c or _HOT_C
    if conditions.temperature_c and max(conditions.temperature_c) > limit - _NEAR_C:
        warn(f"it reached {max(conditions.temperature_c):.0f} °C, and slows down at {limit:.0f} °C; cool it.")
    if before.busy_s is not None and after.busy_s is not None and conditions.seconds > 0:
        others = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
        conditions.others_cpus = max(0.0, others / conditions.seconds)
        if conditions.others_cpus > _OTHERS * machine.cores:
            warn(f"other programs kept {conditions.others_cpus:.2f} of {machine.cores} CPUs busy; stop them.")
    if before.steal_s is not None and after.steal_s is not None and conditions.seconds > 0:
        conditions.steal_cpus = (after.steal_s - before.steal_s) / conditions.seconds
        if conditions.steal_cpus > _OTHERS * machine.cores:
            warn(f"the hypervisor took {conditions.steal_cpus:.2f} of {machine.cores} CPUs away.")
    if before.swapped is not None and after.swapped is not None and after.swapped > before.swapped:
        warn("memory was swapped meanwhile; time fewer models at once.")
    return conditions


def _judge_throttling(before: Moment, after: Moment, conditions: Conditions) -> None:
    if after.throttled is not None:
        was = before.throttled or 0
        for bit, name in THROTTLED.items():
            came = after.throttled & ~was & 1 << bit + _SINCE_BOOT
            if came or (after.throttled | was) & 1 << bit:
                conditions.throttling.append(name)
    if before.throttle_events is not None and (after.throttle_events or 0) > before.throttle_events:
        conditions.throttling.append("thermal throttling")
    if conditions.throttling:
        conditions.warnings.append(
            f"the machine slowed itself down ({', '.join(conditions.throttling)}); give it power and cooling."
        )
