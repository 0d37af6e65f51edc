"""Every command in the documents: run where it can be, and parsed by the real command line where it cannot.

A page's commands run in order in one folder, which holds what the documents' names say (``folder`` below). A command is
run as it stands unless :data:`NOT_RUN` says why not; a new one needs a row there only if it cannot run here, and a
line in ``folder`` if it names a file that is not there yet.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from documents import DOCUMENTS, ROOT, Command, blocks, commands, inline_commands, name_of, spans
from helpers import run
from PIL import Image

from bihrnet_edge import cli
from bihrnet_edge.cli_predict import bare_camera
from bihrnet_edge.pose.keypoints import COCO, LSP

TOOLCHAIN = "needs Android's NDK"
PHONE = "needs a phone, tests/runtimes/bench/test_adb.py has a fake one"
OTHER_MACHINE = "needs another machine, tests/runtimes/bench/test_ssh.py has an ssh server"
SERVER = "serves until Ctrl-C, tests/runtimes/demo has it"
TRAINING = "trains for hours, tests/training has small runs"
CONVERTS = "another conversion takes 15 s, the quick start's is run; tests/test_cli.py and tests/export have the rest"
PROCESSES = "many processes or a verdict on noise, tests/test_cli_bench.py has it; one bench is run"
#: Pattern of a command to why it is not run, first match; its options are parsed all the same.
NOT_RUN = {
    r"make (demo|test|arm|wheels)": "takes minutes; .ci/run runs most of them",
    r"(pose/bin/)?pip install|python3 -m venv|echo |cmake ": "changes the machine, or takes minutes",
    r"packaging/": "takes minutes; .ci/run runs them",
    r"bihrnet-edge bench .*--adb": PHONE,
    r"bihrnet-edge bench .*--ssh": OTHER_MACHINE,
    r"ssh |scp ": OTHER_MACHINE,
    r"bihrnet-edge bench .*(--compare|--runtime|--threads|twin)": PROCESSES,
    r"bihrnet-edge demo": SERVER,
    r"bihrnet-edge predict .*--camera": "needs a camera, tests/runtimes/video has what stands in for one",
    r"bihrnet-edge predict .*clip\.mp4": "needs a video, tests/runtimes/video makes some",
    r"bihrnet-edge train": TRAINING,
    r"bihrnet-edge export (?!bihrnet-small-lsp --target lce-arm64 --target onnx --out out$)": CONVERTS,
    r"bihrnet-edge calibrate": CONVERTS,
    r"bihrnet-edge overlap": "needs what calibrate writes, tests/calibration/test_overlap.py has it",
}
#: Arguments that make a run short: what stands there, and what is run in its place.
SHORTER = {"--size 500": "--size 4", "--size 128": "--size 4"}
FEW = ("--runs", "2", "--rounds", "1", "--warmup", "0")
BUNDLED = "bihrnet-small-lsp"

pytest.importorskip("torch")


def why_not_run(command: Command) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, command.text)), None)


def parse(words: tuple[str, ...]) -> None:
    """Let the real command line parse ``words``, without calling the command."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    if words[0].startswith("-"):
        assert words[0] in {name for option in group.params for name in option.opts}
        return
    assert words[0] in group.commands, f"there is no command {words[0]}"
    rest = bare_camera([word for word in words[1:] if word != "--help"])
    if rest:
        group.commands[words[0]].make_context(words[0], rest)


def shows(lines: tuple[str, ...], output: str) -> str | None:
    """The first of ``lines`` that ``output`` has not, in order; numbers are any numbers, … is anything."""
    rest = output
    for line in lines:
        pattern = r"\s+".join(re.escape(word) for word in line.split())
        pattern = re.sub(r"\d+(\\?[.,]\d+)*(e\\?-\d+)?", lambda _: r"[\\d.,e-]+", pattern).replace("…", ".*?")
        pattern = re.sub(r"(─|━)+", lambda found: f"{found[1]}+", pattern)
        found = re.search(pattern, rest)
        if found is None:
            return line
        rest = rest[found.end() :]
    return None


def people(folder: Path, annotations: str, images: str, count: int, seed: int) -> None:
    """``count`` people with COCO's joints, one a picture, in COCO's form."""
    rng = np.random.default_rng(seed)
    (folder / images).mkdir(exist_ok=True)
    document: dict[str, Any] = {
        "images": [], "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}],
    }  # fmt: skip
    for i in range(count):
        name = f"{seed}-{i}.png"
        Image.fromarray(rng.integers(0, 255, (90, 70, 3), np.uint8)).save(folder / images / name)
        document["images"].append({"id": i + 1, "file_name": name, "width": 70, "height": 90})
        points = np.concatenate([rng.uniform(10, 60, (17, 2)), np.full((17, 1), 2.0)], axis=1)
        document["annotations"].append(
            {"id": i + 1, "image_id": i + 1, "category_id": 1, "keypoints": points.ravel().tolist(),
             "num_keypoints": 17, "bbox": [5, 5, 60, 80], "area": 4800, "iscrowd": 0}
        )  # fmt: skip
    (folder / annotations).write_text(json.dumps(document))


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What every page finds, and what the quick start's export said, the one conversion that is run.

    A small network of the bundled checkpoint's joints and name stands in for it.
    """
    from bihrnet_edge.model.checkpoint import random_checkpoint, save_checkpoint
    from bihrnet_edge.model.config import ModelConfig

    folder = tmp_path_factory.mktemp("docs")
    config = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=len(LSP))
    small = random_checkpoint(config, name=BUNDLED, keypoints=LSP, input_size=(64, 32), seed=1)
    save_checkpoint(folder / "model.pt", small)
    people(folder, "val.json", "images", 6, seed=1)
    people(folder, "train.json", "images", 20, seed=2)
    people(folder, "person_keypoints_val.json", "val2017", 6, seed=3)
    shutil.copy(folder / "person_keypoints_val.json", folder / "person_keypoints_val2017.json")
    boxes = [{"image_id": i, "category_id": 1, "bbox": [4, 6, 60, 80], "score": 0.9} for i in range(1, 7)]
    (folder / "detections.json").write_text(json.dumps(boxes))
    shutil.copy(folder / "images" / "1-0.png", folder / "person.png")
    Image.open(folder / "person.png").save(folder / "person.jpg")

    export = next(c for c in commands(ROOT / "docs" / "quickstart.md") if c.words[:2] == ("bihrnet-edge", "export"))
    assert why_not_run(export) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        printed = run_captured(export)
    for suffix in (".lce.tflite", ".onnx"):
        made = folder / "out" / f"{BUNDLED}{suffix}"
        shutil.copy(made, folder / made.name)
        shutil.copy(made, folder / f"model{suffix}")
        shutil.copy(made, folder / "out" / f"model{suffix}")
    return folder, printed


def run_captured(command: Command) -> str:
    """What a command prints; it must succeed."""
    text = command.text
    for written, short in SHORTER.items():
        text = text.replace(written, short)
    words = tuple("model.pt" if word == BUNDLED else word for word in text.split()[1:])
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = run(*words, *(FEW if words[0] == "bench" else ()))
    assert code == 0 or gate_is_meant(command, code), f"{command}\n{errors.getvalue()}"
    return output.getvalue()


def gate_is_meant(command: Command, code: int) -> bool:
    """A network of random weights on noise may well fail an accuracy check; that it was made is enough."""
    return code == 3 and "--max-drop" in command.words


def runnable(document: Path) -> list[Command]:
    return [c for c in commands(document) if c.program == "bihrnet-edge" and why_not_run(c) is None]


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if runnable(d)], ids=name_of)
def test_commands_run(
    document: Path, things: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, exported = things
    shutil.copytree(folder, tmp_path / "page")
    monkeypatch.chdir(tmp_path / "page")
    for command in runnable(document):
        output = exported if command.words[1] == "export" else run_captured(command)
        missing = shows(command.output, output)
        assert missing is None, f"{command}\nshows, but does not print: {missing}\nprinted:\n{output}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_are_ones_that_there_are(document: Path) -> None:
    found = [*commands(document), *inline_commands(document)]
    for command in found:
        words = command.words
        try:
            if "bihrnet-edge" in words:  # ssh HOST bihrnet-edge …, too
                parse(words[words.index("bihrnet-edge") + 1 :])
            elif command.program in OTHERS:
                OTHERS[command.program](words)
            else:
                raise AssertionError(f"what is {command.program}?")
        except Exception as error:
            raise AssertionError(f"{command}\n{error}") from error


def check_make(words: tuple[str, ...]) -> None:
    done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_pip(words: tuple[str, ...]) -> None:
    extras = set(metadata("bihrnet-edge").get_all("Provides-Extra") or [])
    for word in words:
        wanted = re.fullmatch(r"(\.|bihrnet-edge|dist/\S+\.whl)(\[(?P<extras>[\w,]+)\])?", word)
        if wanted and wanted["extras"]:
            assert set(wanted["extras"].split(",")) <= extras
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file()


def check_cmake(words: tuple[str, ...]) -> None:
    if "-S" in words:
        assert (ROOT / words[words.index("-S") + 1] / "CMakeLists.txt").is_file()
    lists = "".join(path.read_text() for path in (ROOT / "CMakeLists.txt", ROOT / "runtimes/native/CMakeLists.txt"))
    for name in (found[1] for word in words if (found := re.match(r"-D(\w+)=", word))):
        assert name.startswith(("CMAKE_", "ANDROID_")) or name in lists


def check_script(words: tuple[str, ...]) -> None:
    text = (ROOT / words[0]).read_text(encoding="utf-8")
    for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
        assert re.search(rf"{option}\b", text), f"{words[0]} has no {option}"


def nothing(words: tuple[str, ...]) -> None:
    """Other people's programs, about which the repository knows nothing."""


OTHERS = {
    "make": check_make, "pip": check_pip, "pose/bin/pip": check_pip, "cmake": check_cmake,
    "packaging/build_wheels.sh": check_script, "python3": nothing, "scp": nothing, "ssh": nothing, "echo": nothing,
}  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_scripts_that_are_named_have_the_options_that_are_named(document: Path) -> None:
    for span in spans(document):
        words = tuple(span.split())
        if re.match(r"(benchmarks|packaging|examples|tests|runtimes|export|calibration|docs)/[\w/.-]+\.\w+$", words[0]):
            assert (ROOT / words[0]).is_file(), span
            if len(words) > 1:
                check_script(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_options_that_are_named_exist(document: Path) -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    known = {
        name for part in (group, *group.commands.values()) for option in part.params
        for name in (*option.opts, *option.secondary_opts)
    } | {"--help"}  # fmt: skip
    scripts = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("benchmarks", "packaging", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".sh")
    )
    for span in spans(document):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*\b(?!-?…)", span):
            theirs = option in THEIR_OPTIONS or re.search(rf"{option}\b", scripts)
            assert option in known or theirs, f"{name_of(document)}: there is no {option} (`{span}`)"


#: Of other people's programs.
THEIR_OPTIONS = {"--external_delegate_path", "--no-build-isolation"}


def test_every_reason_is_used() -> None:
    texts = [command.text for document in DOCUMENTS for command in commands(document)]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, text) for text in texts)] == []


def test_examples_in_the_help_parse() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    for name, command in group.commands.items():
        examples = re.findall(r"`bihrnet-edge ([^`]+)`", command.epilog or "")
        assert examples, f"the help of {name} has no example"
        for example in examples:
            parse(tuple(example.split()))


def programs(document: Path) -> list[str]:
    """The document's Python."""
    if document.suffix != ".rst":
        return blocks(document, "python")
    text = document.read_text(encoding="utf-8")
    found = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, flags=re.MULTILINE)
    return [re.sub(r"^   ", "", program, flags=re.MULTILINE) for program in found]


PYTHON = [document for document in [*DOCUMENTS, ROOT / "docs" / "api" / "index.rst"] if programs(document)]


@pytest.mark.parametrize("document", PYTHON, ids=name_of)
def test_python_runs(document: Path, things: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(things[0])
    for program in programs(document):
        exec(compile(program, str(document), "exec"), {"__name__": "__main__"})
