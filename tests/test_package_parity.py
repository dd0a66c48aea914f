"""The zip holds what Chalice's own packager puts into it, byte for byte.

Chalice's packager runs for real, with pip and the package index, in the hash-locked environment of
each version. Both get the same versions: what ours locked is written into the requirements of the
other, so that only the packaging is compared.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from chalice_ci.package.build import Package
from support.commandline import APPS
from support.index import Index, serve, wheel
from support.packages import (
    build,
    chalice_archives,
    chalice_packages,
    deployer,
    genuine,
    members,
    project,
)

PAIRS = (("1.29.0", "3.10"), ("1.31.4", "3.12"), ("1.33.0", "3.12"), ("1.34.0", "3.13"))
NEWEST = ("1.34.0", "3.14")

LIBRARY: dict[str, str | bytes] = {
    "chalicelib/__init__.py": "",
    "chalicelib/deep/data.bin": bytes(range(256)) * 40,
    "vendor/carried/__init__.py": "carried = True\n",
    "vendor/single.py": "single = True\n",
    # Takes the place of the dependency's file.
    "vendor/six.py": "mine = True\n",
    "ignored.py": "",
    "templates/page.html": "",
}


@dataclass(frozen=True, kw_only=True)
class Compared:
    package: Package
    plain: dict[str, dict[str, tuple[int, int]]]


def compared(
    folder: Path,
    pair: tuple[str, str],
    files: dict[str, str | bytes],
    *,
    layer: bool = False,
) -> Compared:
    """Build with both. The oracle's requirements are the versions that ours locked."""
    chalice, version = pair
    app_dir = project(folder / "app", files)
    package = build(
        app_dir,
        out_dir=folder / "out",
        python=version,
        chalice=genuine(chalice, version),
        automatic_layer=layer,
    )
    locked = "".join(f"{d.name}=={d.version}\n" for d in package.manifest.dependencies)
    other = project(folder / "oracle", {**files, "requirements.txt": locked})
    kinds = (
        ("AppOnlyDeploymentPackager", "LayerDeploymentPackager")
        if layer
        else ("LambdaDeploymentPackager",)
    )
    plain = chalice_packages(other, deployer(chalice, version), f"python{version}", *kinds)
    return Compared(package=package, plain=plain)


@pytest.mark.parametrize("pair", PAIRS, ids="-on-".join)
def test_an_app_without_dependencies_has_the_same_members(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """`app.py` and the two files of Chalice's runtime."""
    both = compared(tmp_path, pair, {"requirements.txt": "# nothing\n"})
    assert members(both.package.app.path) == both.plain["LambdaDeploymentPackager"]
    assert set(members(both.package.app.path)) == {
        "app.py",
        "chalice/__init__.py",
        "chalice/app.py",
    }


@pytest.mark.parametrize("pair", [*PAIRS, NEWEST], ids="-on-".join)
def test_pure_and_compiled_dependencies_vendor_and_chalicelib_have_the_same_members(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """requests is pure and has five dependencies, PyYAML and MarkupSafe are compiled."""
    yaml, safe = ("6.0.3", "3.0.3") if pair == NEWEST else ("6.0.2", "3.0.2")
    requirements = f"requests\nPyYAML=={yaml}\nMarkupSafe=={safe}\nsix\njmespath\n"
    both = compared(tmp_path, pair, {**LIBRARY, "requirements.txt": requirements})
    ours, plain = members(both.package.app.path), both.plain["LambdaDeploymentPackager"]
    # Chalice writes six.py twice; what is unpacked last is what counts.
    assert ours == plain
    assert any(name.endswith(".so") for name in ours)
    assert "vendor/single.py" not in ours
    assert "single.py" in ours
    assert "ignored.py" not in ours


@pytest.mark.parametrize("pair", [PAIRS[0], PAIRS[-1]], ids="-on-".join)
def test_a_layer_has_the_same_members(tmp_path: Path, pair: tuple[str, str]) -> None:
    """With automatic_layer dependencies and vendor go below python/lib/…, the app beside it."""
    files = {**LIBRARY, "requirements.txt": "requests\nMarkupSafe==3.0.2\n"}
    both = compared(tmp_path, pair, files, layer=True)
    assert both.package.layer is not None
    assert members(both.package.app.path) == both.plain["AppOnlyDeploymentPackager"]
    assert members(both.package.layer.path) == both.plain["LayerDeploymentPackager"]


def test_an_empty_layer_is_no_layer(tmp_path: Path) -> None:
    """Lambda refuses a layer in which every file is empty; so do Chalice and we."""
    files: dict[str, str | bytes] = {"requirements.txt": "", "vendor/empty/__init__.py": ""}
    both = compared(tmp_path, PAIRS[-1], files, layer=True)
    assert both.package.layer is None
    assert "LayerDeploymentPackager" not in both.plain
    assert both.package.archives == (both.package.app,)


def test_chalice_in_the_requirements_brings_its_dependencies_but_not_itself(
    tmp_path: Path,
) -> None:
    """As Chalice: only the folder `chalice` is left out, what it depends on is in the zip."""
    both = compared(tmp_path, PAIRS[-1], {"requirements.txt": "chalice\n"})
    ours = members(both.package.app.path)
    assert ours == both.plain["LambdaDeploymentPackager"]
    assert {name for name in ours if name.startswith("chalice/")} == {
        "chalice/__init__.py",
        "chalice/app.py",
    }
    assert "botocore/__init__.py" in ours
    assert "chalice-1.34.0.dist-info/METADATA" in ours


CORPUS = tuple(sorted(path.parent for path in APPS.rglob("app.py") if "vendor" not in path.parts))


def _settings(app_dir: Path) -> tuple[bool, str]:
    """Whether an app has a layer, and its architecture; where there is no config.json, neither."""
    try:
        config = json.loads((app_dir / ".chalice/config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    return bool(config.get("automatic_layer")), config.get("lambda_architecture", "x86_64")


def contents(archive: Path) -> dict[str, bytes]:
    """The bytes of every file; of two with one name the later counts."""
    with zipfile.ZipFile(archive) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist() if not info.is_dir()}


def test_every_app_of_the_corpus_has_the_same_files_with_the_same_bytes(tmp_path: Path) -> None:
    """One zip or two, both architectures; the corpus pins its dependencies."""
    chalice, version = PAIRS[-1]
    ours: list[tuple[Path, Package]] = []
    wanted: list[tuple[Path, tuple[str, ...], str]] = []
    for number, source in enumerate(CORPUS):
        app_dir = tmp_path / f"{number}-{source.name}"
        ignored = shutil.ignore_patterns("__pycache__", "deployments")
        shutil.copytree(source, app_dir, symlinks=True, ignore=ignored)
        layer, architecture = _settings(app_dir)
        package = build(
            app_dir,
            out_dir=tmp_path / "out",
            python=version,
            chalice=genuine(chalice, version),
            automatic_layer=layer,
            architecture=architecture,
        )
        ours.append((source, package))
        kinds = ("AppOnlyDeploymentPackager", "LayerDeploymentPackager")
        wanted.append((app_dir, kinds if layer else ("LambdaDeploymentPackager",), architecture))
    plain = chalice_archives(wanted, deployer(chalice, version), f"python{version}")
    assert len(ours) >= 40
    assert any(package.layer for _, package in ours)
    for (source, package), theirs in zip(ours, plain, strict=True):
        archives = [archive.path for archive in package.archives]
        assert len(archives) == len(theirs), source
        for mine, its in zip(archives, theirs.values(), strict=True):
            assert contents(mine) == contents(its), source


# -- what differs ----------------------------------------------------------------------------------

DIFFERENCES = (
    "`__pycache__` folders of the project are left out; importing the app writes them, never twice "
    "the same.",
    "Executable files of wheels stay executable; Chalice loses that.",
    "When two dependencies have a file of the same name, the later by name wins; in Chalice it is "
    "chance.",
    "Where Chalice writes a name twice (a file of `vendor/` over one of a dependency), it is "
    "written once, with the bytes that would be unpacked last.",
    "`.git`, of a submodule or a clone inside the project, is left out; Chalice packages it.",
)
"""All that may differ between the zips, in the words of docs/packaging.md."""


def test_the_documentation_lists_what_differs_and_nothing_else() -> None:
    text = (Path(__file__).parents[1] / "docs/packaging.md").read_text(encoding="utf-8")
    listed = text.partition("The differences are:\n\n")[2].partition("\n\n")[0]
    lines = listed.replace("\n  ", " ").splitlines()
    assert tuple(line.removeprefix("- ") for line in lines) == DIFFERENCES


def test_what_differs_from_chalices_zip_is_what_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every difference at once: beside them names, bytes and modes are the same."""
    script = zipfile.ZipInfo("first/run.sh")
    script.external_attr = (stat.S_IFREG | 0o755) << 16
    with serve(Index()) as index:
        for name, entries in (
            ("first", ((script, b"#!/bin/sh\n"), ("both.py", b"first"), ("mine.py", b"theirs"))),
            ("second", (("both.py", b"second"),)),
        ):
            index.add(f"{name}-1.0-py3-none-any.whl", wheel(name, "1.0", *entries))
        files: dict[str, str | bytes] = {
            "requirements.txt": "first\nsecond\n",
            "chalicelib/__init__.py": "",
            "chalicelib/__pycache__/__init__.cpython-313.pyc": b"\0",
            "vendor/mine.py": "ours\n",
            "chalicelib/sub/.git": "gitdir: ../../.git/modules/sub\n",
            "vendor/clone/.git/config": "[remote]\n",
        }
        chalice, version = PAIRS[-1]
        python, installed = deployer(chalice, version), genuine(chalice, version)
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        environ = {"PATH": os.environ["PATH"], "UV_DEFAULT_INDEX": index.url}
        package = build(
            project(tmp_path / "app", files),
            out_dir=tmp_path / "out",
            cache_dir=tmp_path / "cache",
            environ=environ,
            python=version,
            chalice=installed,
        )
        other = project(tmp_path / "oracle", files)
        wanted = [(other, ("LambdaDeploymentPackager",), "x86_64")]
        (theirs,) = chalice_archives(wanted, python, f"python{version}")
    (archive,) = theirs.values()
    ours, plain = contents(package.app.path), contents(archive)
    assert set(plain) - set(ours) == {
        *("chalicelib/__pycache__/__init__.cpython-313.pyc", "chalicelib/sub/.git"),
        "clone/.git/config",
    }
    assert set(ours) <= set(plain)
    assert {name for name in ours if ours[name] != plain[name]} <= {"both.py"}
    assert (ours["both.py"], ours["mine.py"]) == (b"second", b"ours\n")
    assert plain["both.py"] in (b"first", b"second")
    with zipfile.ZipFile(package.app.path) as one, zipfile.ZipFile(archive) as two:
        names = [info.filename for info in one.infolist()]
        assert len(names) == len(set(names))
        modes = {info.filename: info.external_attr >> 16 & 0o111 for info in one.infolist()}
        assert {name for name, mode in modes.items() if mode} == {"first/run.sh"}
        assert not two.getinfo("first/run.sh").external_attr >> 16 & 0o111


@pytest.mark.parametrize("pair", [PAIRS[-1]], ids="-on-".join)
def test_heavy_compiled_dependencies_have_the_same_members(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    """numpy needs a newer glibc than manylinux2014; left out, it would be missed in Lambda only."""
    both = compared(tmp_path, pair, {"requirements.txt": "numpy\npydantic\n"})
    ours = members(both.package.app.path)
    assert ours == both.plain["LambdaDeploymentPackager"]
    assert "numpy/__init__.py" in ours
