"""Packages built by Chalice's own packager and by ours, and projects to build them from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from chalice_ci.app.environment import chalice_dir, make_deployer_environment
from chalice_ci.app.pythons import Interpreter, describe, find_python
from chalice_ci.app.wheel_builder import SandboxedBuilder
from chalice_ci.package.build import Package, PackageRequest, build_package
from chalice_ci.package.foreign import Packager
from chalice_ci.package.index import addresses, with_index
from chalice_ci.package.project_file import export_requirements
from chalice_ci.package.requirements import read_requirements
from chalice_ci.uv import clean_environ, find_uv

# Runs in an environment that has Chalice; the packagers are called as its deployer calls them.
_PACK = r"""
import json, sys
from chalice.deploy import packager
from chalice.utils import OSUtils, UI

wanted, runtime = json.loads(sys.argv[1])
made = []
for project, kinds, architecture in wanted:
    made.append({})
    for kind in kinds:
        # Before 1.34 there was one architecture.
        more = {} if architecture == "x86_64" else {"architecture": architecture}
        builder = packager.DependencyBuilder(OSUtils(), **more)
        packer = getattr(packager, kind)(
            osutils=OSUtils(), dependency_builder=builder, ui=UI(), **more
        )
        try:
            made[-1][kind] = packer.create_deployment_package(project, runtime)
        except packager.EmptyPackageError:
            made[-1][kind] = None
print("\n" + json.dumps(made))
"""

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"

Members = dict[str, tuple[int, int]]


def cache_folder() -> Path:
    """A cache that all tests of this machine's user share: what is under test is safe in it."""
    folder = Path(tempfile.gettempdir()) / f"chalice-ci-tests-{os.getuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    return folder / "cache"


@cache
def interpreter(version: str) -> Interpreter:
    """A Python of this version; skips the test where there is none."""
    found = find_python(version, environ=os.environ, running=Path(sys.executable))
    if found is None:
        pytest.skip(f"Python {version} is not on this machine")
    return found


@cache
def deployer(chalice: str, version: str) -> Path:
    """The Python of the hash-locked environment with this Chalice."""
    return make_deployer_environment(
        chalice, cache_dir=cache_folder(), environ=os.environ, interpreter=interpreter(version)
    )


def running() -> Interpreter:
    found = describe(Path(sys.executable))
    assert found is not None
    return found


def project(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """A project with these files; `app.py` is made when it is not among them."""
    for name, content in {"app.py": "app = None\n", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def build(
    app_dir: Path,
    *,
    out_dir: Path,
    repo_root: Path | None = None,
    python: str = "3.12",
    chalice: Path | None = None,
    cache_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    architecture: str = "x86_64",
    automatic_layer: bool = False,
    max_size: int | None = None,
    through_bucket: bool = False,
    allowed: tuple[str, ...] = (),
    packager: Packager | None = None,
    environment_lock: Future[str] | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Package:
    """Our package of a project; what is `allowed` is built from source in the sandbox."""
    root = repo_root or app_dir
    cache_dir = cache_dir or cache_folder()
    environ = os.environ if environ is None else environ
    requirements = read_requirements(
        app_dir,
        repo_root=root,
        build=allowed,
        export=lambda: export_requirements(
            app_dir,
            repo_root=root,
            uv=find_uv(environ, cache_dir=cache_dir / "uv", index=False),
            python=running().executable,
            indexes=addresses(clean_environ(environ, home=cache_dir, index=True)),
        ),
    )
    builder = None
    if allowed:
        uv = find_uv(environ, cache_dir=cache_dir / "uv", index=True)
        work_dir = Path(tempfile.mkdtemp(prefix="build-", dir=cache_folder().parent))
        work_dir.chmod(0o711)
        builder = SandboxedBuilder(
            interpreter=running() if python == RUNNING else interpreter(python),
            uv=replace(uv, environ=with_index(uv.environ, requirements)),
            cache_dir=cache_folder(),
            work_dir=work_dir,
            confined=False,
            log=log,
        )
    return build_package(
        PackageRequest(
            app_dir=app_dir,
            repo_root=root,
            requirements=requirements,
            python=python,
            interpreter=running(),
            chalice_dir=chalice or installed_chalice(),
            architecture=architecture,
            automatic_layer=automatic_layer,
            max_size=max_size,
            through_bucket=through_bucket,
            allowed=allowed,
            build=builder,
            packager=packager,
            environment_lock=environment_lock,
        ),
        cache_dir=cache_dir,
        out_dir=out_dir,
        environ=environ,
    )


def installed_chalice() -> Path:
    """The chalice package beside the tests."""
    from chalice import app

    return Path(app.__file__).parent


def chalice_packages(app_dir: Path, python: Path, runtime: str, *kinds: str) -> dict[str, Members]:
    """What Chalice's own packagers put into their zips; an empty layer is missing."""
    (made,) = chalice_archives([(app_dir, kinds, "x86_64")], python, runtime)
    return {kind: members(path) for kind, path in made.items()}


def chalice_archives(
    wanted: Sequence[tuple[Path, tuple[str, ...], str]], python: Path, runtime: str
) -> list[dict[str, Path]]:
    """The zips that Chalice's own packagers make of several projects; empty layers are missing.

    `wanted` are projects with the packagers and the architecture of each.
    """
    listed = [[str(folder), kinds, architecture] for folder, kinds, architecture in wanted]
    argument = json.dumps([listed, runtime])
    done = subprocess.run(
        [python, "-B", "-c", _PACK, argument],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PIP_NO_INPUT": "1"},
        cwd=wanted[0][0],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Could not install dependencies" not in done.stdout
    made = json.loads(done.stdout.splitlines()[-1])
    return [{kind: Path(path) for kind, path in one.items() if path is not None} for one in made]


def members(archive: Path) -> Members:
    """Checksum and size of every file in a zip; of two with one name the later counts."""
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        return {info.filename: (info.CRC, info.file_size) for info in infos if not info.is_dir()}


def genuine(chalice: str, version: str) -> Path:
    """The chalice package of the hash-locked environment."""
    return chalice_dir(deployer(chalice, version))
