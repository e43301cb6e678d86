"""Sphinx: the pages of this directory, the API from its docstrings, the commands from their help. ``.ci/docs`` builds it."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from opensslcmp import __version__  # noqa: E402
from opensslcmp.cli.manual import write_markdown  # noqa: E402

project = "opensslcmp"
author = copyright = "the authors of opensslcmp"  # noqa: A001 -- the names that Sphinx reads
release = version = __version__
root_doc = "index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

# Two layers have classes of one name each (Pending, CA, Issued): a type in a signature does not say which, so it has no link.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = f"opensslcmp {release}"

# Pages are written for whoever reads them as they are: links have the anchors that a forge makes of headings.
myst_heading_anchors = 4
myst_heading_slug_func = "docutils.nodes.make_id"
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

(HERE / "_generated").mkdir(exist_ok=True)
write_markdown(HERE / "_generated" / "commands.md")


def setup(app: Any) -> None:
    """The README and its neighbours are not pages of the site; links to them lead to its first page."""

    def rewrite(_app: Any, _page: str, source: list[str]) -> None:
        source[0] = re.sub(r"\]\(\.\./[A-Z]+\.md(#[\w-]*)?\)", "](index.md)", source[0])

    app.connect("source-read", rewrite)
