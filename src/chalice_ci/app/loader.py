"""The program that loads an app, kept compiled in the environment that it runs in.

It is of this package and not the app's; it may not be changed by what it loads, so it lies where
the environment lies. To compile it takes as long as importing Chalice's graph.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from chalice_ci.app.virtualenv import layers

SOURCE = Path(__file__).parent.parent / "child" / "chalice_ci_child"
FILES = ("__init__.py", "codec.py", "load.py", "templates.py")
FOLDER = "loader"
"""Below an environment; on sys.path only until the loader is imported."""


def loader_digest() -> str:
    """Changes when the loader does."""
    whole = hashlib.sha256()
    for name in FILES:
        whole.update((SOURCE / name).read_bytes())
    return whole.hexdigest()


def install_loader(environment: Path) -> None:
    """Put the loader into an environment that is being made."""
    package = environment / FOLDER / SOURCE.name
    package.mkdir(parents=True)
    for name in FILES:
        (package / name).write_bytes((SOURCE / name).read_bytes())
    for path in (package.parent, package, *package.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


def installed_loader(python: Path) -> Path | None:
    """Where the loader lies for an environment, in itself or in what it stands on."""
    folders = (folder / FOLDER for folder in (python.parent.parent, *layers(python)))
    return next((folder for folder in folders if folder.is_dir()), None)
