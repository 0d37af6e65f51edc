"""Sphinx's settings: ``make docs`` builds the site into build/site, and a warning fails it.

The packages are read as they are installed: there, and only there, the four folders are one package.
"""

from __future__ import annotations

import re
import typing
from importlib.metadata import version as version_of

import typer.main
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click

from bihrnet_edge import cli

project = "bihrnet-edge"
release = version = version_of("bihrnet-edge")
copyright = "the authors of bihrnet-edge, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["logs"]
smartquotes = False  # -- belongs to options

myst_heading_anchors = 3

# TensorFlow takes seconds to import and nothing of it is shown; torch is real, its classes are bases of ours.
autodoc_mock_imports = ["bihrnet_edge.export.tensorflow_env", "larq_compute_engine", "lightning_fabric", "tensorboardX"]
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"bihrnet-edge {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

_COMMANDS = "<!-- commands -->"


def _commands() -> str:
    """Every command's arguments and options as Markdown, from the command line itself."""
    command = typer.main.get_command(cli.app)
    context = typing.cast("typer.Context", command.make_context("bihrnet-edge", ["doctor"]))
    parts = get_docs_for_click(obj=command, ctx=context, name="bihrnet-edge")
    _, _, each = parts.partition("\n## ")
    # Angle brackets are types there, not HTML.
    return re.sub(r"^## `bihrnet-edge (\w+)`", r"## \1", "## " + each, flags=re.MULTILINE)


def _fill_in(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "commands":
        source[0] = source[0].replace(_COMMANDS, _commands())


def _escape(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Types that Napoleon puts in are Markup: a trailing underscore there is a link."""
    lines[:] = [line.replace("numpy.bool_", "numpy.bool\\_") for line in lines]


def setup(app: Sphinx) -> None:
    """Sphinx calls this with itself."""
    app.connect("source-read", _fill_in)
    app.connect("autodoc-process-docstring", _escape, priority=900)
