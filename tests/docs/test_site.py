"""The documentation as a site: it builds without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: A browser fetches what these attributes of these elements name; of links, only the kinds in LOADED.
LOADING = {"src", "srcset", "poster", "data", "background"}
LOADED = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


class Page(HTMLParser):
    """What a page loads, where it leads to, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.images_without_text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.loads += [values[name] for name in LOADING & set(values)]
        if tag == "link" and LOADED & set(values.get("rel", "").split()):
            self.loads.append(values["href"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "img" and not values.get("alt"):
            self.images_without_text.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="the extra docs is not installed, or Python is older than 3.11")
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("site")
    # As `make docs`, from elsewhere: in the root, half of the package lies in the way of the installed one.
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*command, "-d", out / "doctrees", DOCS, out / "site"], cwd=out, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return out / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_document_has_its_page_and_its_place_in_the_navigation(site: Path, pages: dict[Path, Page]) -> None:
    sources = [path for path in DOCS.rglob("*") if path.suffix in (".md", ".rst")]
    assert len(sources) > 30
    linked = {(site / link.partition("#")[0]).resolve() for link in pages[site / "index.html"].links}
    for source in sources:
        page = site / source.relative_to(DOCS).with_suffix(".html")
        assert page in pages
        assert page in linked or source.name == "index.md", f"{source} is in no toctree"


def test_nothing_is_loaded_from_other_hosts(site: Path, pages: dict[Path, Page]) -> None:
    def is_local(address: str) -> bool:
        parts = urlsplit(address)
        return parts.scheme == "data" or not (parts.scheme or parts.netloc)

    for path, page in pages.items():
        assert page.loads
        assert [address for address in page.loads if not is_local(address)] == [], path
    styles = list(site.rglob("*.css"))
    scripts = list(site.rglob("*.js"))
    assert styles
    assert scripts
    for path in [*styles, *pages]:
        text = path.read_text(encoding="utf-8")
        addresses = re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)
        assert [address for address in addresses if not is_local(address)] == [], path
    for path in scripts:  # SVG's namespace is a name, not an address
        strings = re.findall(r"['\"`](?:https?:)?//[\w.-]+[^'\"`]*", path.read_text(encoding="utf-8"))
        assert [string for string in strings if "www.w3.org/2000/svg" not in string] == [], path


def test_links_within_the_site_lead_somewhere(pages: dict[Path, Page]) -> None:
    checked = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.name}: {link}"
            checked += 1
    assert checked > 1000


def test_pictures_have_a_text_alternative(pages: dict[Path, Page]) -> None:
    assert {path.name: page.images_without_text for path, page in pages.items() if page.images_without_text} == {}
