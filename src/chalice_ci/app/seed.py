"""Makes beforehand what every app and every deployment needs, for the image to bring.

    python -I -m chalice_ci.app.seed

The environments of all Chalices that run on this Python, by the very code and under the very keys
by which a run looks for them; a run that finds one there makes and fetches nothing. They lie below
the installation's own prefix, belong to whoever builds the image, and no run writes to them. Equal
files are one file: the environments differ in little.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from chalice_ci.app.environment import (
    genuine_chalice,
    make_base_environment,
    make_deployer_environment,
    reachable,
)
from chalice_ci.app.pythons import describe
from chalice_ci.app.versions import SUPPORTED
from chalice_ci.app.virtualenv import BROUGHT
from chalice_ci.errors import PackageError


def plant(folder: Path, *, running: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Make the environments in `folder`, for the Python `running`; the answer is where they are.

    Raises PackageError when no supported Chalice runs on it, or one cannot be had.
    """
    interpreter = describe(running)
    chalices = [
        chalice
        for chalice, pythons in SUPPORTED.items()
        if interpreter is not None and interpreter.minor in pythons
    ]
    if interpreter is None or not chalices:
        raise PackageError("no supported Chalice runs on this Python.", where=str(running))
    reachable(interpreter, folder, brought=folder / "nothing yet")
    for chalice in chalices:
        for make in (make_base_environment, make_deployer_environment, genuine_chalice):
            make(
                chalice,
                cache_dir=folder,
                environ=environ,
                interpreter=interpreter,
                brought=folder / "nothing yet",
            )
    for entry in (*folder.iterdir(), *(folder / "environments").glob(".*")):
        if entry.is_dir() and entry.name not in ("environments", "interpreters"):
            shutil.rmtree(entry)
        elif not entry.is_dir():
            entry.unlink()
    _share(folder)
    return tuple(sorted((folder / "environments").iterdir()))


def _share(folder: Path) -> None:
    """Make equal files one file with several names."""
    seen: dict[tuple[str, int], Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        first = seen.setdefault((content, path.stat().st_mode), path)
        if not first.samefile(path):
            path.unlink()
            path.hardlink_to(first)


if __name__ == "__main__":
    for made in plant(BROUGHT, running=Path(sys.executable), environ=os.environ):
        print(made)
