"""How `make docs` builds the site from the Markdown files of this folder.

The same files are read on a code host, so they hold Markdown only: what a site needs besides (the order of the pages)
stands here. Nothing is fetched, neither when the site is built nor when it is read.
"""

from pathlib import Path

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx import addnodes
from sphinx.application import Sphinx

project = "rollout"
html_title = "rollout"
extensions = ["myst_parser"]
root_doc = "index"
html_theme = "furo"
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 4
nitpicky = True

ORDER = (
    "getting-started",
    "gates",
    "simulate",
    "backtest",
    "operations",
    "plan-reference",
    "cli",
    "json",
    "messages",
    "providers",
    "metrics",
    "glossary",
    "how-it-works",
    "lifecycle",
    "benchmarks/*",
    "decisions/*",
)
"""The pages as the sidebar lists them, after the index."""


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    # Drawn by code hosts; here its text is shown, which reads well and needs no script from elsewhere.
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", order_pages)
    app.connect("doctree-read", open_folders)


def order_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the table of contents to the index, invisibly: on a code host it would show as code."""
    if docname == app.config.root_doc:
        listed = "\n".join(ORDER)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:maxdepth: 2\n\n{listed}\n```\n"


def open_folders(app: Sphinx, doctree: nodes.document) -> None:
    """A link to a folder, which a code host shows as a list, leads to the folder's first page here."""
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in doctree.findall(addnodes.pending_xref):
        folder = here / link["reftarget"]
        if link.get("refdomain") is None and folder.is_dir():
            first = min(folder.glob("*.md"))
            link["refdomain"], link["reftarget"] = "doc", app.env.path2doc(str(first))
            link["reftargetid"] = None
