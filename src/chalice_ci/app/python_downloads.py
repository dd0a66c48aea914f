"""Fetching the Python of an app where this machine does not have it.

uv does it: builds of python-build-standalone, each with the hash that this version of uv knows.
Only where the environment says so, in uv's own words: `UV_PYTHON_DOWNLOADS=automatic`, as the
image does. A developer's machine is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from chalice_ci.app.pythons import Interpreter, describe
from chalice_ci.uv import find_uv

# The operator's mirrors.
_PASSED = ("UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS_JSON_URL", "UV_HTTP_RETRIES")
_SECONDS = 240


def may_download(environ: Mapping[str, str]) -> bool:
    """Whether a Python may be fetched without asking."""
    return environ.get("UV_PYTHON_DOWNLOADS", "").lower() in ("automatic", "true", "1")


def downloaded_python(wanted: str, *, cache_dir: Path) -> Interpreter | None:
    """A Python that was fetched before: `wanted` is "3.12" or "3.12.1", whose end is a wish."""
    minor = ".".join(wanted.split(".")[:2])
    places = sorted(_folder(cache_dir).glob(f"cpython-{minor}.*/bin/python{minor}"), reverse=True)
    found = [one for one in map(describe, places) if one is not None and one.minor == minor]
    return next((one for one in found if one.version == wanted), found[0] if found else None)


def download_python(
    wanted: str, *, cache_dir: Path, environ: Mapping[str, str]
) -> Interpreter | None:
    """Fetch a Python into the cache; None when what came does not run here.

    Raises `chalice_ci.uv.UvFailed` with what uv said.
    """
    folder = _folder(cache_dir)
    # A process without rights must be able to run what is in there.
    for each in (cache_dir, folder):
        each.mkdir(mode=0o755, parents=True, exist_ok=True)
    uv = find_uv(environ, cache_dir=cache_dir / "uv-pythons", index=False)
    passed = {name: environ[name] for name in _PASSED if environ.get(name)}
    uv = replace(uv, environ={**uv.environ, **passed, "UV_PYTHON_DOWNLOADS": "manual"})
    uv.run(
        ["python", "install", "--no-bin", "--install-dir", str(folder), wanted],
        cwd=folder,
        seconds=_SECONDS,
    )
    return downloaded_python(wanted, cache_dir=cache_dir)


def _folder(cache_dir: Path) -> Path:
    return cache_dir / "pythons"
