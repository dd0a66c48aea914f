"""Collects an app's dependencies with Chalice's own packager, as `chalice package` does.

It runs pip, and pip runs what it builds, so this is for the sandbox. The request comes on stdin as
JSON, the answer goes to descriptor 3; the files lie in `package.zip` in the process's own folder.

Standard library and chalice only; Python 3.10 and later; Chalice 1.29 to 1.34.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import zipfile
from pathlib import Path
from typing import Any

from chalice.deploy import packager
from chalice.utils import OSUtils

ANSWER = 3


def main() -> None:
    """Answer with nothing, with what is missing, or with what went wrong."""
    request = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(ANSWER, "wb")
    said: dict[str, Any]
    try:
        said = _packed(request, Path(request["folder"]))
    except packager.MissingDependencyError as error:
        said = {"missing": sorted(str(one.identifier) for one in error.missing)}
    except BaseException as error:
        traceback.print_exc()
        said = {"error": f"{type(error).__name__}: {error}"[:2000]}
    sys.stdout.flush()
    sys.stderr.flush()
    answer.write(request["nonce"].encode() + b"\n" + json.dumps(said).encode())
    answer.close()
    os._exit(0)


def _packed(request: dict[str, Any], own: Path) -> dict[str, Any]:
    requirements, files = own / "requirements.txt", own / "files"
    (own / "constraints.txt").write_text(request["constraints"], encoding="utf-8")
    bounded = "-c constraints.txt\n" if request["constraints"] else ""
    requirements.write_text(bounded + request["requirements"], encoding="utf-8")
    # Before 1.34 there was one architecture.
    plain = request["architecture"] == "x86_64"
    more = {} if plain else {"architecture": request["architecture"]}
    builder = packager.DependencyBuilder(OSUtils(), **more)
    builder.build_site_packages(request["abi"], str(requirements), str(files))
    with zipfile.ZipFile(own / "package.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(files.rglob("*")) if files.is_dir() else ():
            if path.is_file():
                packed.write(path, path.relative_to(files).as_posix())
    return {}
