"""Source distributions with a build backend of their own: nothing else is needed to build them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

# PEP 517 by the standard library alone. `BEFORE` runs while the wheel is built.
_BACKEND = r"""
{top}
import zipfile

NAME, VERSION, TAG, REQUIRES, NEEDS = {name!r}, {version!r}, {tag!r}, {requires!r}, {needs!r}

def get_requires_for_build_wheel(config_settings=None):
    return list(NEEDS)

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = {{f"{{NAME}}.py": f"version = {{VERSION!r}}\n".encode()}}
{before}
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    lines = "".join(f"Requires-Dist: {{one}}\n" for one in REQUIRES)
    files[f"{{info}}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {{NAME}}\nVersion: {{VERSION}}\n{{lines}}\n".encode()
    )
    files[f"{{info}}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {{TAG}}\n".encode()
    files[f"{{info}}/RECORD"] = b""
    filename = f"{{NAME}}-{{VERSION}}-{{TAG}}.whl"
    with zipfile.ZipFile(f"{{wheel_directory}}/{{filename}}", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return filename

# What uv asks when it locks a project with dynamic metadata.
build_editable = build_wheel
"""

_PROJECT = """
[build-system]
requires = {requires}
build-backend = "backend"
backend-path = ["."]

[project]
name = "{name}"
dynamic = ["version"]
"""


def source(
    name: str,
    version: str = "1.0",
    *,
    before: str = "",
    requires: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    build_requires: tuple[str, ...] = (),
    tag: str = "py3-none-any",
    top: str = "",
) -> dict[str, str]:
    """The files of a project.

    `requires` is what the wheel depends on, `needs` what its backend asks for once it is there,
    `build_requires` what its pyproject.toml names. `before` may change `files`,
    `top` runs when the backend is imported.
    """
    indented = "".join(f"    {line}\n" for line in before.splitlines())
    backend = _BACKEND.format(
        name=name,
        version=version,
        tag=tag,
        requires=requires,
        needs=needs,
        before=indented,
        top=top,
    )
    listed = "[" + ", ".join(f'"{one}"' for one in build_requires) + "]"
    return {
        "pyproject.toml": _PROJECT.format(requires=listed, name=name),
        "backend.py": backend,
    }


def packed(folder: str, files: Mapping[str, str]) -> bytes:
    """A tar archive of files below a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
