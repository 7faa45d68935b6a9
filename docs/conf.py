"""Sphinx configuration. The build needs no network."""

from importlib.metadata import version as _version

project = "txasynchat"
author = "The txasynchat developers"
copyright = author
release = version = _version("txasynchat")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
nitpicky = False

html_theme = "furo"
html_title = f"txasynchat {release}"
