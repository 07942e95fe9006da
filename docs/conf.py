"""How the pages in this folder become a site: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import aebnas  # noqa: E402

project = "aebnas"
author = "The aebnas developers"
project_copyright = author
version = release = aebnas.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "settings_reference"]
exclude_patterns = ["_build", "_ext"]
# Fragments of files and other languages: what is coloured is no more than a help.
suppress_warnings = ["misc.highlighting_failure"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
# Links such as training.md#cuda go to headings, by the names that code hosts give them.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"aebnas {release}"
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
