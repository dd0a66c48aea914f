"""Fetching the Python of an app: a build that is served here, by the real uv."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from chalice_ci.app.python_downloads import download_python, downloaded_python, may_download
from chalice_ci.app.pythons import describe
from chalice_ci.app.versions import PYTHONS, Versions, resolve_app_versions
from chalice_ci.config import AppConfig
from chalice_ci.uv import UvFailed
from support.packages import project

MINOR = f"3.{sys.version_info[1]}"
FULL = platform.python_version()
CERTIFICATES = {k: os.environ[k] for k in ("SSL_CERT_FILE",) if k in os.environ}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="builds are made for Linux here")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The environment in which uv knows one build: the Python that runs this, packed."""
    folder = tmp_path_factory.mktemp("builds")
    archive = folder / "cpython.tar.gz"
    base = describe(Path(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))

    def kept(info):
        left_out = {"test", "tests", "site-packages", "dist-packages", "idlelib", "__pycache__"}
        gone = left_out & set(Path(info.name).parts) or info.name.endswith(".a")
        # Debian's links lead to other folders, which are not packed.
        gone = gone or (info.issym() and "/" in info.linkname)
        return None if gone else info

    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(base.executable, f"python/bin/python{MINOR}")
        tar.add(library, f"python/lib/python{MINOR}", filter=kept)
    known = {
        f"cpython-{FULL}-linux-x86_64-gnu": {
            "name": "cpython",
            "arch": {"family": platform.machine(), "variant": None},
            "os": "linux",
            "libc": "gnu",
            "major": 3,
            "minor": sys.version_info[1],
            "patch": sys.version_info[2],
            "prerelease": "",
            "url": archive.as_uri(),
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "variant": None,
            "build": "20251101",
        }
    }
    listing = folder / "downloads.json"
    listing.write_text(json.dumps(known), encoding="utf-8")
    return {**CERTIFICATES, "UV_PYTHON_DOWNLOADS_JSON_URL": str(listing)}


PLACES = ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")


def unreachable():
    return {
        **CERTIFICATES,
        "UV_PYTHON_DOWNLOADS": "automatic",
        "UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9",
        "UV_HTTP_RETRIES": "0",
    }


def missing():
    """A supported Python that cannot be on this machine, as far as `bare` shows it."""
    found = (m for m in PYTHONS if not any(Path(p, f"python{m}").exists() for p in PLACES))
    return next(minor for minor in found if minor != MINOR)


def bare(root, **environ):
    """What the versions of an app are where only the running Python can be seen."""
    said = []
    answer = resolve_app_versions(
        project(root / "app", {}),
        app=AppConfig(name="orders", path=".", python=missing()),
        repo_root=root / "app",
        python_path=None,
        running=Path(sys.executable),
        environ={"PATH": "", "RUNNER_TOOL_CACHE": str(root), **environ},
        cache_dir=root / "cache",
        log=said.append,
    )
    return answer, said


def test_a_python_is_fetched_once_and_then_found(tmp_path, build):
    assert downloaded_python(MINOR, cache_dir=tmp_path) is None
    fetched = download_python(MINOR, cache_dir=tmp_path, environ=build)
    assert fetched is not None
    assert fetched.executable.is_relative_to(tmp_path)
    assert (fetched.minor, fetched.version) == (MINOR, FULL)
    assert downloaded_python(MINOR, cache_dir=tmp_path) == fetched
    assert downloaded_python(f"{MINOR}.999", cache_dir=tmp_path) == fetched
    assert downloaded_python("3.9", cache_dir=tmp_path) is None


def test_a_process_without_rights_may_run_what_was_fetched(tmp_path, build):
    fetched = download_python(MINOR, cache_dir=tmp_path / "cache", environ=build)
    assert fetched is not None
    closed = [
        path
        for path in fetched.executable.parents[1].rglob("*")
        if not path.is_symlink() and not path.stat().st_mode & 0o004
    ]
    parents = [folder for folder in fetched.executable.parents if folder.is_relative_to(tmp_path)]
    closed += [folder for folder in parents[:-1] if not folder.stat().st_mode & 0o001]
    assert closed == []
    assert fetched.executable.stat().st_mode & 0o005 == 0o005


def test_a_build_that_is_not_the_known_one_is_refused(tmp_path, build):
    listing = Path(build["UV_PYTHON_DOWNLOADS_JSON_URL"])
    known = json.loads(listing.read_text(encoding="utf-8"))
    for one in known.values():
        one["sha256"] = "0" * 64
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(known), encoding="utf-8")
    environ = {**build, "UV_PYTHON_DOWNLOADS_JSON_URL": str(forged)}
    with pytest.raises(UvFailed, match=r"(?i)hash"):
        download_python(MINOR, cache_dir=tmp_path / "cache", environ=environ)
    assert downloaded_python(MINOR, cache_dir=tmp_path / "cache") is None


def test_nothing_is_fetched_unless_the_environment_allows_it(tmp_path):
    assert may_download({"UV_PYTHON_DOWNLOADS": "automatic"})
    for value in ("", "manual", "never", "false"):
        assert not may_download({"UV_PYTHON_DOWNLOADS": value})
    (finding,), said = bare(tmp_path, **{**unreachable(), "UV_PYTHON_DOWNLOADS": "never"})
    assert finding.rule == "python-version"
    assert finding.what.endswith("(from chalice-ci.yml) is not on this machine.")
    assert said == []


def test_what_cannot_be_fetched_is_a_finding_that_says_why(tmp_path):
    (finding,), said = bare(tmp_path, **unreachable())
    assert said == [f"fetching Python {missing()}"]
    assert finding.rule == "python-version"
    assert "could not be fetched" in finding.what
    assert "UV_PYTHON_INSTALL_MIRROR" in finding.fix


def test_an_app_gets_the_python_that_was_fetched(tmp_path, build):
    """With the running Python hidden behind another name, as if it were not here."""
    environ = {"PATH": "", "RUNNER_TOOL_CACHE": str(tmp_path), "UV_PYTHON_DOWNLOADS": "automatic"}
    hidden = tmp_path / "not-python"
    answer = resolve_app_versions(
        project(tmp_path / "app", {}),
        app=AppConfig(name="orders", path=".", python=MINOR),
        repo_root=tmp_path / "app",
        python_path=None,
        running=hidden,
        environ={**build, **environ},
        cache_dir=tmp_path / "cache",
        log=lambda text: None,
    )
    assert isinstance(answer, Versions)
    if not any(Path(place, f"python{MINOR}").exists() for place in PLACES):
        assert answer.interpreter.executable.is_relative_to(tmp_path / "cache")
