"""The demo page in a real browser, without a screen."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bihrnet_edge.runtimes.demo.server import DemoServer

pytest.importorskip("selenium", reason="the browser test needs selenium: pip install bihrnet-edge[dev]")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

Driver = webdriver.Chrome
#: A browser that neither looks for a screen nor for the network, with a webcam that shows a test picture.
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip
#: Drops a file where a mouse would: the page sees the same events.
DROP = """
const [name, base64] = arguments;
const bytes = Number.isInteger(base64) ? new Uint8Array(base64)
  : Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name));
for (const type of ["dragenter", "dragover", "drop"]) {
  const target = document.getElementById("drop");
  target.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}
"""
#: The canvases' pixels as PNG, base64.
CANVASES = "return [...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL().split(',')[1]);"
#: Okabe and Ito's yellow, of joints that are neither left nor right.
CENTER = (240, 228, 66)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("there is no browser here; on Debian: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield browser
    browser.quit()


@pytest.fixture
def page(driver: Driver, server: DemoServer) -> Iterator[Driver]:
    """The page as it is after loading; nothing that it does may be an error in the console or leave this machine."""
    driver.get(server.url)
    until(driver, lambda: text(driver, "status") == "Ready for a picture.")
    yield driver
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name);")
    assert all(name.startswith((server.url, "data:", "blob:")) for name in loaded), loaded
    errors = [entry for entry in driver.get_log("browser") if "/predict" not in entry["message"]]
    assert errors == []


def until(driver: Driver, condition: Callable[[], Any]) -> None:
    WebDriverWait(driver, 20, 0.05).until(lambda _: condition())


def text(driver: Driver, identifier: str) -> str:
    return str(driver.execute_script(f"return document.getElementById({identifier!r}).textContent;"))


def drop(driver: Driver, name: str, data: bytes | int) -> None:
    """A file of these bytes, or of so many zeros; returns when the page has said something about it."""
    driver.execute_script(DROP, name, data if isinstance(data, int) else base64.b64encode(data).decode())
    until(driver, lambda: "looked at by" in text(driver, "status") or text(driver, "error"))


def joints(driver: Driver) -> list[list[dict[str, Any]]]:
    """What the tables of the page say, in the form of the JSON that ``predict`` writes."""
    tables = driver.execute_script(
        "return [...document.querySelectorAll('article table')].map((table) => [...table.tBodies[0].rows].map("
        "(row) => [...row.cells].map((cell) => cell.textContent)));"
    )
    return [
        [{"name": name, "x": float(x), "y": float(y), "score": float(score)} for name, x, y, score in rows]
        for rows in tables
    ]


def canvases(driver: Driver) -> list[np.ndarray]:
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), np.int16)
        for data in driver.execute_script(CANVASES)
    ]


def skeleton_at(canvas: np.ndarray, person: Any) -> bool:
    """Whether the disc of every joint that lies in the picture, and nothing else, has the joints' colour."""
    hit = (np.abs(canvas - CENTER) <= 2).all(axis=2)
    points = [(round(p["y"]), round(p["x"])) for p in person["keypoints"] if p["score"] >= 0.1]
    height, width = hit.shape
    inside = [(y, x) for y, x in points if 0 <= y < height and 0 <= x < width]
    return bool(inside) and all(hit[y, x] for y, x in inside)


def test_a_dropped_picture_shows_two_skeletons_with_the_joints_of_predict(
    page: Driver, picture: Path, predicted: Callable[..., list[Any]]
) -> None:
    drop(page, "phone.jpg", picture.read_bytes())
    assert text(page, "error") == ""
    assert "ms" in text(page, "status")
    expected = predicted()
    assert joints(page) == [person["keypoints"] for person in expected]
    assert expected[0]["keypoints"] != expected[1]["keypoints"]
    drawn = canvases(page)
    assert [canvas.shape for canvas in drawn] == [(180, 120, 3)] * 2
    assert all(skeleton_at(canvas, person) for canvas, person in zip(drawn, expected, strict=True))
    latencies = [element.text for element in page.find_elements(By.CSS_SELECTOR, ".latency strong")]
    assert [latency.endswith(" ms") and float(latency[:-3]) > 0 for latency in latencies] == [True, True]

    page.find_element(By.ID, "show-skeleton").click()
    without = canvases(page)
    assert not any(skeleton_at(canvas, person) for canvas, person in zip(without, expected, strict=True))
    page.find_element(By.ID, "show-heatmaps").click()
    bare = canvases(page)
    # Each model has heatmaps of its own, and under them lies the picture, turned upright.
    assert (bare[0] == bare[1]).all()
    assert all(np.abs(a - b).max() > 20 for a, b in zip(without, bare, strict=True))
    assert (without[0] != without[1]).any()
    upright = np.asarray(Image.open(picture).transpose(Image.Transpose.ROTATE_270), np.int16)
    assert np.abs(bare[0] - upright).max() <= 4  # two JPEG decoders


def test_a_box_from_the_fields_and_one_drawn_with_the_pointer(
    page: Driver, picture: Path, predicted: Callable[..., list[Any]]
) -> None:
    page.find_element(By.ID, "file").send_keys(str(picture))
    until(page, lambda: "looked at by" in text(page, "status"))
    page.find_element(By.CSS_SELECTOR, "summary").click()
    for name, value in zip(("x", "y", "width", "height"), ("20", "30.5", "60", "100"), strict=True):
        page.find_element(By.NAME, name).send_keys(value)
    page.find_element(By.NAME, "height").send_keys(Keys.ENTER)
    expected = [person["keypoints"] for person in predicted((20.0, 30.5, 60.0, 100.0))]
    until(page, lambda: joints(page) == expected)
    page.find_element(By.ID, "whole").click()
    whole = [person["keypoints"] for person in predicted()]
    until(page, lambda: joints(page) == whole)
    canvas = page.find_element(By.CSS_SELECTOR, "canvas")
    actions = webdriver.ActionChains(page, 50)
    actions.move_to_element_with_offset(canvas, -40, -60).click_and_hold().move_by_offset(50, 80).release().perform()
    until(page, lambda: page.find_element(By.NAME, "width").get_property("value"))
    x, y, width, height = (
        float(str(page.find_element(By.NAME, name).get_property("value"))) for name in ("x", "y", "width", "height")
    )
    drawn = [person["keypoints"] for person in predicted((x, y, width, height))]
    until(page, lambda: joints(page) == drawn)


def test_what_goes_wrong_is_a_sentence(page: Driver, picture: Path) -> None:
    for name, data, words in (
        ("notes.txt", b"hello", "The picture cannot be read"),
        ("half.jpg", picture.read_bytes()[:300], "truncated"),
        ("large.png", 33 * 2**20, "larger than 32 MiB"),
    ):
        page.execute_script("document.getElementById('status').textContent = '';")
        drop(page, name, data)
        sentence = text(page, "error")
        assert words in sentence
        assert sentence.endswith(".")
    drop(page, "phone.jpg", picture.read_bytes())  # and then all is well again
    until(page, lambda: text(page, "error") == "" and len(joints(page)[0]) == 3)


def test_everything_is_reached_with_the_keyboard(page: Driver) -> None:
    """In the order of reading, each with a name and with a mark where the focus is."""
    reached = []
    for _ in range(9):
        webdriver.ActionChains(page).send_keys(Keys.TAB).perform()
        element = page.switch_to.active_element
        reached.append(element.get_attribute("id") or element.tag_name)
        assert element.accessible_name, reached
        style = page.execute_script("return getComputedStyle(document.activeElement).outline;")
        assert "solid 3px" in style, (reached, style)
        if reached[-1] == "threshold":
            break
    assert reached == ["file", "camera", "summary", "show-skeleton", "show-heatmaps", "joint", "threshold"]
    assert page.find_element(By.ID, "status").aria_role == "status"
    assert page.find_element(By.ID, "error").aria_role == "alert"


@pytest.mark.parametrize("width", [360, 1280])
def test_fits_a_phone(page: Driver, picture: Path, width: int) -> None:
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        drop(page, "a-name-that-is-much-longer-than-a-phone-is-wide-" * 3 + ".jpg", picture.read_bytes())
        page.execute_script("for (const part of document.querySelectorAll('details')) part.open = true;")
        needed = page.execute_script("return document.documentElement.scrollWidth;")
        assert needed <= width
        tops = [element.rect["y"] for element in page.find_elements(By.TAG_NAME, "article")]
        assert (tops[0] == tops[1]) == (width > 360)  # side by side where there is room
        small = page.execute_script(
            "return [...document.querySelectorAll('button, select, input[type=number], input[type=file]')]"
            ".filter((element) => element.getBoundingClientRect().height < 43).map((element) => element.outerHTML);"
        )
        assert small == []
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_webcam_runs_and_may_be_unplugged(page: Driver) -> None:
    """Chromium's own test camera; the joints move with its picture."""
    button = page.find_element(By.ID, "camera")
    button.click()
    until(page, lambda: len(page.find_elements(By.CSS_SELECTOR, ".latency strong")) == 2)
    first = page.find_element(By.CSS_SELECTOR, ".latency").text
    until(page, lambda: page.find_element(By.CSS_SELECTOR, ".latency").text != first)
    assert button.get_attribute("aria-pressed") == "true"
    page.execute_script("document.getElementById('video').srcObject.getTracks()[0].dispatchEvent(new Event('ended'));")
    until(page, lambda: "plug it in" in text(page, "error"))
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    until(page, lambda: text(page, "status") == "The webcam runs." and text(page, "error") == "")
    button.click()
    until(page, lambda: text(page, "status") == "The webcam is off.")
