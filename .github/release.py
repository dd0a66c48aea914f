"""What a release decides; the workflow beside it only runs commands.

    python .github/release.py check 1.2.3          # is this version fit to be released?
    python .github/release.py action 1.2.3 DIGEST REHEARSAL  # write both action.yml for the images
    python .github/release.py notes 1.2.3          # print the changelog's section

Run in the repository's root with the package installed. Exit code 1 with the reason otherwise.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from chalice_ci import __version__
from chalice_ci.action import IMAGE, action_text, rehearsal_text

_VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
_DIGEST = re.compile("sha256:[0-9a-f]{64}")


class Refused(Exception):
    """The release must not go on: the reason, as a sentence with what to do."""


def check(version: str, root: Path) -> None:
    """Refuse a version that is none, that the code does not have, or that was released."""
    if not _VERSION.fullmatch(version):
        raise Refused(f"{version!r} is no version such as 1.2.3.")
    declared = re.search(r'version="([^"]+)"', (root / "setup.py").read_text("utf-8"))
    for name, found in (("setup.py", declared[1] if declared else ""), ("code", __version__)):
        if found != version:
            raise Refused(f"The {name} says {found}: set it to {version} on main first.")
    notes(version, root)
    tags = subprocess.run(
        ["git", "tag", "--list", f"v{version}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if tags.strip():
        raise Refused(f"v{version} was released: a version is never made twice.")


def notes(version: str, root: Path) -> str:
    """The changelog's section of a version."""
    text = (root / "CHANGELOG.md").read_text("utf-8")
    found = re.search(
        rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None or not found[1].strip():
        raise Refused(f"CHANGELOG.md has no section `## {version}` with anything in it.")
    return found[1].strip() + "\n"


def action(version: str, digest: str, rehearsal: str, root: Path) -> None:
    """Write both action.yml so that they pull exactly the images that were built and tested."""
    for one in (digest, rehearsal):
        if not _DIGEST.fullmatch(one):
            raise Refused(f"{one[:80]!r} is no digest of an image.")
    text = action_text(image=f"docker://{IMAGE}:{version}@{digest}")
    (root / "action.yml").write_text(text, "utf-8")
    text = rehearsal_text(image=f"docker://{IMAGE}:{version}-rehearsal@{rehearsal}")
    (root / "rehearsal/action.yml").write_text(text, "utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run one command."""
    root = Path.cwd()
    try:
        match arguments:
            case ["check", version]:
                check(version, root)
            case ["action", version, digest, rehearsal]:
                action(version, digest, rehearsal, root)
            case ["notes", version]:
                sys.stdout.write(notes(version, root))
            case _:
                raise Refused(
                    "Usage: check VERSION | action VERSION DIGEST REHEARSAL | notes VERSION"
                )
    except Refused as refused:
        sys.stderr.write(f"release: {refused}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
