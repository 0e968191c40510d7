"""Sphinx's settings: pip install -e '.[docs]', then sphinx-build docs build/docs."""

from mfserver import __version__

project = "mfserver"
release = __version__
root_doc = "index"
html_theme = "alabaster"
nitpicky = True
