"""Builds a wheel from a source distribution, as PEP 517 says, with the backend that it names.

It runs foreign code and nothing else here does: in a sandbox, without a network or a credential,
in an environment that holds the wheels of the build requirements. The request comes on stdin as
JSON, the answer goes to descriptor 3; the wheel lies in the folder `wheel` of the process's own.

Standard library only; Python 3.10 and later.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import re
import sys
import tarfile
import traceback
import zipfile
from pathlib import Path
from typing import Any

ANSWER = 3
_DISTRIBUTION = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


def main() -> None:
    """Answer with the wheel's name, with what is needed before, or with what went wrong."""
    request = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(ANSWER, "wb", closefd=True)
    own = Path(request["folder"])
    said: dict[str, Any]
    try:
        said = _built(request, own)
    except BaseException as error:
        traceback.print_exc()
        said = {"error": f"{type(error).__name__}: {error}"[:2000]}
    sys.stdout.flush()
    sys.stderr.flush()
    answer.write(request["nonce"].encode() + b"\n" + json.dumps(said).encode())
    answer.close()
    os._exit(0)


def _built(request: dict[str, Any], own: Path) -> dict[str, Any]:
    source = _unpacked(Path(request["archive"]), own / "source")
    if request["subdirectory"]:
        source = source / request["subdirectory"]
    wheels = own / "wheel"
    wheels.mkdir()
    os.chdir(source)
    sys.path[:0] = [str(source / folder) for folder in request["backend_path"]]
    sys.argv = ["setup.py"]
    backend = _backend(request["backend"])
    if not request["complete"]:
        missing = _missing(backend)
        if missing:
            return {"requires": missing}
    return {"wheel": str(backend.build_wheel(str(wheels)))}


def _unpacked(archive: Path, target: Path) -> Path:
    """The folder that holds the source: the only one of the archive, else all of it."""
    target.mkdir()
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(target)
    else:
        with tarfile.open(archive) as packed_tar:
            if hasattr(tarfile, "data_filter"):
                packed_tar.extractall(target, filter="data")
            else:
                packed_tar.extractall(target)
    found = [entry for entry in target.iterdir() if entry.name != "pax_global_header"]
    return found[0] if len(found) == 1 and found[0].is_dir() else target


def _backend(named: str) -> Any:
    module, _, attributes = named.partition(":")
    backend: Any = importlib.import_module(module)
    for attribute in attributes.split(".") if attributes else ():
        backend = getattr(backend, attribute)
    return backend


def _missing(backend: Any) -> list[str]:
    """What the backend needs for this source, as far as it is not there."""
    hook = getattr(backend, "get_requires_for_build_wheel", None)
    wanted = [str(one) for one in hook()] if hook is not None else []
    return [one for one in wanted if not _is_installed(one)]


def _is_installed(requirement: str) -> bool:
    match = _DISTRIBUTION.match(requirement)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return match is not None and bool(importlib.metadata.version(match.group(1)))
    return False
