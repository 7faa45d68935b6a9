"""Sphinx configuration. The build needs no network."""

import re
from importlib.metadata import version as _version

project = "txasynchat"
author = "The txasynchat developers"
copyright = author
release = version = _version("txasynchat")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "performance/results.md"]  # included by performance.md
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
nitpicky = False

smartquotes = False  # b"" stays b""

html_theme = "furo"
html_title = f"txasynchat {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]


def _readable(text):
    # Interfaces by their names, not as zope.interface shows them.
    if text is None:
        return None
    text = re.sub(r"<InterfaceClass (?:\w+\.)*(\w+)>", r"\1", text)
    text = re.sub(r"= _[A-Z_]+\b", "= ...", text)  # a private default says nothing
    return re.sub(r"~(?:\w+\.)+(\w+)", r"\1", text)


def _readable_signature(app, what, name, obj, options, signature, returns):
    if signature is None:
        return None
    return _readable(signature), _readable(returns)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _readable_signature)
