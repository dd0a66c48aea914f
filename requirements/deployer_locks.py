"""Write the deployer's lock files anew: `python requirements/deployer_locks.py [FOLDER]`.

One file for each supported Chalice, good for all of its Pythons; names, versions and hashes, no
address. The newest botocore that every supported Python can install goes into each.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from chalice_ci.app.versions import SUPPORTED
from chalice_ci.uv import find_uv


def write_locks(folder: Path, *, environ: Mapping[str, str], python: Path) -> None:
    """Resolve every supported Chalice and write its lock to `folder`."""
    with tempfile.TemporaryDirectory() as work:
        uv = find_uv(environ, cache_dir=Path(work, "cache"), index=False)
        source = Path(work, "requirements.in")
        for version, pythons in SUPPORTED.items():
            source.write_text(f"chalice=={version}\n", encoding="utf-8")
            answer = Path(work, "requirements.txt")
            answer.unlink(missing_ok=True)
            uv.run(
                [
                    *("pip", "compile", "--quiet", str(source), "--python", str(python)),
                    *("--universal", "--python-version", pythons[0], "--only-binary", ":all:"),
                    *("--generate-hashes", "--no-header", "--no-annotate"),
                    *("--no-emit-index-url", "--output-file", str(answer)),
                ],
                cwd=Path(work),
            )
            text = answer.read_text(encoding="utf-8")
            (folder / f"chalice-{version}.txt").write_text(text, encoding="utf-8")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Write them where the package has them, or to the folder that is named."""
    own = Path(__file__).parent.parent / "src/chalice_ci/locks"
    folder = Path(arguments[0]) if arguments else own
    write_locks(folder, environ=environ, python=Path(sys.executable))


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
