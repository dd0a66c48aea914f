"""Which apps a change is about: names of files in, apps out.

An app is made of its own folder. What else it is made of - a folder that several apps copy from, a
constraint file at the root - its `paths` declare, with the patterns of .gitignore, read from the
repository's root; `!` takes out what an earlier pattern took in, also of the app's own folder. The
library `pathspec` is used because those patterns have more rules than one would think.
"""

from __future__ import annotations

from collections.abc import Collection

import pathspec

from chalice_ci.config import FILE_NAME, AppConfig

EVERYONES = (FILE_NAME, ".python-version")
"""Files of the root that decide how every app is built and deployed."""


def what_affects(app: AppConfig, files: Collection[str], *, config: str | None) -> str:
    """One of the changed files that the app is made of, "" when there is none.

    `config` is the path of the configuration file that is in use, None without one. Of several the
    first in the order of the alphabet is told, so that the same change gives the same text.
    """
    own = "**" if app.path == "." else f"/{_literal(app.path)}/**"
    spec = pathspec.GitIgnoreSpec.from_lines((own, *app.paths))
    shared = {*EVERYONES, config}
    return min((file for file in files if file in shared or spec.match_file(file)), default="")


def _literal(path: str) -> str:
    """A path as a pattern that means only itself."""
    return "".join(f"\\{sign}" if sign in "*?[]!#\\ " else sign for sign in path)
