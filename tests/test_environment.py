"""The environments of the app and of the deployer: what goes in, who can use them, how they fail.

uv, the Pythons of this machine and the package index are real.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from chalice_ci.app.environment import (
    AppPython,
    chalice_dir,
    deployer_lock,
    genuine_chalice,
    make_app_environment,
    make_deployer_environment,
)
from chalice_ci.app.pythons import Interpreter, candidates, describe, find_python
from chalice_ci.app.resolution import CHALICE_NEEDS
from chalice_ci.app.versions import (
    DEFAULT_CHALICE,
    SUPPORTED,
    Versions,
    resolve_app_versions,
    support_table,
)
from chalice_ci.app.virtualenv import layers, site_packages
from chalice_ci.config import AppConfig
from chalice_ci.errors import PackageError
from chalice_ci.findings import Finding, Severity
from chalice_ci.uv import clean_environ, find_uv, masked
from support.index import Index, sdist, serve, wheel
from support.packages import cache_folder, deployer, interpreter, project, running

RUNNING = Path(sys.executable)
CORNERS = {
    # The newest is not on every machine; the one before it is.
    chalice: tuple(dict.fromkeys((pythons[0], *(p for p in pythons if p == "3.13"), pythons[-1])))
    for chalice, pythons in SUPPORTED.items()
}
# Every Chalice once, on its oldest Python and on a new one in turns; `make test-deep` has all.
PAIRS = [
    (chalice, python)
    for number, (chalice, pythons) in enumerate(CORNERS.items())
    for python in (
        pythons if os.environ.get("DEPLOYERS") == "all" else (pythons[:2][-(number % 2)],)
    )
]


def resolved(
    root: Path,
    *,
    python: str | None = None,
    chalice: str | None = None,
    python_path: Path | None = None,
    path: str = ".",
    environ: Mapping[str, str] = os.environ,
) -> Versions | tuple[Finding, ...]:
    return resolve_app_versions(
        root / path,
        app=AppConfig(name="orders", path=path, python=python, chalice=chalice),
        repo_root=root,
        python_path=python_path,
        running=RUNNING,
        environ=environ,
        cache_dir=cache_folder(),
        log=lambda text: None,
    )


def versions_of(root: Path, **more: str | None) -> Versions:
    answer = resolved(root, **more)  # type: ignore[arg-type]
    assert isinstance(answer, Versions), answer
    return answer


def refused(root: Path, **more: str | None) -> Finding:
    answer = resolved(root, **more)  # type: ignore[arg-type]
    assert not isinstance(answer, Versions)
    (finding,) = answer
    assert finding.severity is Severity.ERROR
    assert finding.app == "orders"
    return finding


def either(*versions: str) -> str:
    """The first of these Pythons that this machine has; skips the test where it has none."""
    for version in versions:
        if find_python(version, environ=os.environ, running=RUNNING) is not None:
            return version
    pytest.skip(f"none of the Pythons {', '.join(versions)} is on this machine")


# --- which versions -------------------------------------------------------------------------------


def test_without_a_wish_the_running_python_and_the_default_chalice_are_taken(
    tmp_path: Path,
) -> None:
    versions = versions_of(project(tmp_path, {}))
    assert versions.python == f"3.{sys.version_info[1]}"
    assert versions.python_source == "the Python that runs chalice-ci"
    assert (versions.chalice, versions.chalice_source) == (DEFAULT_CHALICE, "the default")
    assert versions.findings == ()


@pytest.mark.parametrize(
    ("requirements", "chalice"),
    [
        ("chalice==1.33.0", "1.33.0"),
        ("chalice==1.33", "1.33.0"),
        ("Chalice ~= 1.31.0", "1.31.4"),
        ("chalice>=1.30,<1.33", "1.32.0"),
        ("chalice", DEFAULT_CHALICE),
        ("chalice>=1.20", DEFAULT_CHALICE),
        ("-r more.txt", "1.32.0"),
        ("chalice\n-c bounds.txt", "1.31.3"),
        (
            'chalice==1.29.0; python_version<"3.11"\nchalice==1.33.0; python_version>"3.10"',
            "1.33.0",
        ),
        ("# chalice==1.29.0", DEFAULT_CHALICE),
    ],
)
def test_the_chalice_that_the_app_asks_for_is_taken(
    tmp_path: Path, requirements: str, chalice: str
) -> None:
    files = {
        "requirements.txt": f"{requirements}\n",
        "more.txt": "chalice==1.32.0\n",
        "bounds.txt": "chalice<1.31.4\n",
    }
    python = either("3.12", "3.11")
    assert versions_of(project(tmp_path, files), python=python).chalice == chalice


@pytest.mark.parametrize(
    "requirement", ["chalice==1.26.6", "chalice<1.20", "chalice==9.9", "chalice===nonsense"]
)
def test_an_unsupported_chalice_names_the_upgrade_and_the_override(
    tmp_path: Path, requirement: str
) -> None:
    root = project(tmp_path, {"requirements.txt": f"six\n{requirement}\n"})
    finding = refused(root)
    assert finding.rule == "chalice-version"
    assert finding.at is not None
    assert str(finding.at) == "requirements.txt:2"
    assert "chalice==1.34.0" in finding.fix
    assert 'orders: {path: ., chalice: "1.34.0"}' in finding.fix
    assert versions_of(root, chalice="1.34.0").chalice == "1.34.0"


@pytest.mark.parametrize(
    "line",
    ["chalice @ git+https://example.org/chalice.git", "-e git+https://e.org/x.git#egg=chalice"],
)
def test_a_chalice_from_an_address_is_refused(tmp_path: Path, line: str) -> None:
    finding = refused(project(tmp_path, {"requirements.txt": f"{line}\n"}))
    assert finding.rule == "chalice-version"
    assert "address" in finding.what
    assert 'chalice: "1.34.0"' in finding.fix


def test_a_chalice_that_does_not_run_on_the_python_names_both_ways_out(tmp_path: Path) -> None:
    root = project(tmp_path, {"requirements.txt": "chalice==1.29.0\n"})
    finding = refused(root, python=either("3.12", "3.11", "3.13"))
    assert finding.rule == "chalice-version"
    assert 'chalice: "1.34.0"' in finding.fix
    assert 'python: "3.10"' in finding.fix


def test_an_old_chalice_is_taken_on_its_own_python(tmp_path: Path) -> None:
    interpreter("3.10")
    root = project(tmp_path, {"requirements.txt": "chalice==1.29.0\n"})
    assert versions_of(root, python="3.10").chalice == "1.29.0"


@pytest.mark.parametrize("text", ["3.12", "3.12.1\n", "# ours\n3.12\n3.11\n", "cpython-3.12"])
@pytest.mark.parametrize("place", [".python-version", "services/orders/.python-version"])
def test_a_version_file_is_read_beside_the_app_and_at_the_root(
    tmp_path: Path, text: str, place: str
) -> None:
    interpreter("3.12")
    project(tmp_path, {place: text, "services/orders/app.py": ""})
    versions = versions_of(tmp_path, path="services/orders")
    assert (versions.python, versions.python_source) == ("3.12", place)


def test_the_nearer_version_file_counts_and_the_configuration_before_it(tmp_path: Path) -> None:
    interpreter("3.12")
    interpreter("3.10")
    project(tmp_path, {".python-version": "3.10", "a/.python-version": "3.12", "a/app.py": ""})
    assert versions_of(tmp_path, path="a").python == "3.12"
    assert versions_of(tmp_path, path="a", python="3.10").python_source == "chalice-ci.yml"


def test_a_version_file_that_names_something_else_is_a_warning(tmp_path: Path) -> None:
    """pyenv-virtualenv writes the name of an environment into it."""
    root = project(tmp_path, {".python-version": "my-project\n"})
    (warning,) = versions_of(root).findings
    assert (warning.rule, warning.severity) == ("python-version", Severity.WARNING)
    assert str(warning.at) == ".python-version:1"


def test_a_version_file_that_is_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    root = project(tmp_path / "app", {"a/app.py": ""})
    (tmp_path / "outside").write_text("3.10\n")
    (root / ".python-version").symlink_to("../outside")
    os.mkfifo(root / "a/.python-version")
    assert versions_of(root, path="a").python_source == "the Python that runs chalice-ci"


@pytest.mark.parametrize("python", ["3.9", "3.6.8", "3.99"])
def test_an_unsupported_python_names_those_that_are(tmp_path: Path, python: str) -> None:
    finding = refused(project(tmp_path, {}), python=python)
    assert finding.rule == "python-version"
    assert "3.10, 3.11, 3.12, 3.13, 3.14" in finding.what
    assert 'python: "3.14"' in finding.fix


def test_a_python_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    other = next(p for p in SUPPORTED[DEFAULT_CHALICE] if p != f"3.{sys.version_info[1]}")
    empty = {"PATH": str(tmp_path), "HOME": str(tmp_path), "RUNNER_TOOL_CACHE": str(tmp_path)}
    if any(candidates(other, environ=empty)):
        pytest.skip("the system itself has that Python")
    answer = resolved(project(tmp_path, {}), python=other, environ=empty)
    assert not isinstance(answer, Versions)
    assert "actions/setup-python" in answer[0].fix


def test_python_path_wins_and_must_be_a_python(tmp_path: Path) -> None:
    other = interpreter("3.12")
    root = project(tmp_path, {".python-version": "3.10"})
    answer = resolved(root, python="3.10", python_path=other.executable)
    assert isinstance(answer, Versions)
    assert (answer.python, answer.python_source) == ("3.12", "python-path")
    answer = resolved(root, python_path=Path("/bin/sh"))
    assert not isinstance(answer, Versions)
    assert answer[0].rule == "python-version"


def test_the_documentation_has_the_table_of_supported_pairs() -> None:
    text = (Path(__file__).parent.parent / "docs/packaging.md").read_text(encoding="utf-8")
    assert support_table() in text


# --- finding a Python -----------------------------------------------------------------------------


def test_shims_are_never_candidates(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "python3.12").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (shims / "python3.12").chmod(0o755)
    environ = {"PATH": str(shims), "HOME": str(tmp_path)}
    assert not [c for c in candidates("3.12", environ=environ) if c.is_relative_to(tmp_path)]


def test_the_versions_of_pyenv_the_tool_cache_and_uv_are_candidates(tmp_path: Path) -> None:
    places = [
        "pyenv/versions/3.12.10/bin/python3.12",
        "pyenv/versions/3.12.9/bin/python3.12",
        "tools/Python/3.12.7/x64/bin/python3.12",
        "uv/cpython-3.12.8-linux-x86_64-gnu/bin/python3.12",
    ]
    project(tmp_path, {**dict.fromkeys(places, ""), "pyenv/versions/3.11.1/bin/python3.11": ""})
    environ = {
        "PATH": "",
        "PYENV_ROOT": str(tmp_path / "pyenv"),
        "RUNNER_TOOL_CACHE": str(tmp_path / "tools"),
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "uv"),
    }
    found = [c for c in candidates("3.12", environ=environ) if c.is_relative_to(tmp_path)]
    assert [str(c.relative_to(tmp_path)) for c in found] == places


def test_a_candidate_that_is_not_what_its_name_says_is_passed_over(tmp_path: Path) -> None:
    for number, script in enumerate(("exit 1", "echo nonsense", f'exec {sys.executable} "$@"')):
        path = tmp_path / f"{number}" / "python3.13"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    environ = {"PATH": ":".join(str(tmp_path / f"{n}") for n in range(3)), "HOME": str(tmp_path)}
    found = find_python("3.13", environ=environ)
    if sys.version_info[:2] != (3, 13):
        assert found is None or not found.executable.is_relative_to(tmp_path)


def test_a_virtual_environment_stands_for_its_base(tmp_path: Path) -> None:
    found = describe(RUNNING)
    assert found is not None
    assert not (found.executable.parent.parent / "pyvenv.cfg").exists()


# --- the app's environment ------------------------------------------------------------------------


def environment(
    folder: Path,
    requirements: str = "",
    *,
    python: str | None = None,
    chalice: str | None = None,
    environ: Mapping[str, str] = os.environ,
    cache_dir: Path | None = None,
) -> AppPython:
    root = project(folder, {"requirements.txt": requirements})
    return make_app_environment(
        versions_of(root, python=python, chalice=chalice),
        cache_dir=cache_dir or cache_folder(),
        environ=environ,
    )


def says(python: Path, code: str) -> str:
    done = subprocess.run(
        [python, "-I", "-B", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORTS = (
    "import boto3, chalice, chalice.package, chalice.deploy.deployer, chalice.deploy.planner;"
    "print(chalice.__version__)"
)


@pytest.mark.parametrize(
    "pair", [("1.29.0", "3.10"), ("1.31.4", "3.12"), ("1.34.0", "3.13")], ids="-on-".join
)
def test_an_app_environment_has_chalice_boto3_and_the_requirements(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    chalice, version = pair
    interpreter(version)
    python = environment(tmp_path, "six==1.16.0\n", python=version, chalice=chalice)
    assert says(python.executable, IMPORTS) == chalice
    assert says(python.executable, "import six; print(six.__version__)") == "1.16.0"
    assert (python.version, python.chalice, python.findings) == (version, chalice, ())


def test_an_environment_is_used_again_and_another_one_for_other_requirements(
    tmp_path: Path,
) -> None:
    one = environment(tmp_path / "one", "six==1.16.0\n")
    again = environment(tmp_path / "two", "# the same\nsix == 1.16.0\n")
    other = environment(tmp_path / "three", "six==1.17.0\n")
    assert one.executable == again.executable
    assert one.key != other.key


def test_an_environment_is_open_to_others_whatever_the_umask_is(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.umask(0o077)\n"
        "from pathlib import Path\n"
        "from test_environment import environment\n"
        f"print(environment(Path({str(tmp_path / 'app')!r}), 'six==1.16.0\\n',"
        f" cache_dir=Path({str(tmp_path / 'cache')!r})).executable)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    python = Path(done.stdout.strip())
    for path in (tmp_path / "cache/environments", *python.parents[1].rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
            assert mode & wanted == wanted, path
            assert not mode & 0o022, path


def test_a_half_made_or_damaged_environment_is_made_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    python = environment(tmp_path / "app", cache_dir=cache).executable
    record = python.parents[1] / "chalice-ci.json"
    record.write_text("{")
    shutil.rmtree(python.parents[1] / "lib")
    assert environment(tmp_path / "app", cache_dir=cache).executable == python
    assert says(python, IMPORTS) == DEFAULT_CHALICE
    left = [path.name for path in (cache / "environments").iterdir() if path.is_dir()]
    assert left == [python.parents[1].name]


def test_many_makers_at_once_make_one_environment(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(number: int) -> None:
        python = environment(tmp_path / f"{number}", "six==1.16.0\n", cache_dir=tmp_path / "cache")
        made.append(python.executable)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    assert says(made[0], IMPORTS) == DEFAULT_CHALICE


def test_what_an_app_needs_besides_stands_on_what_all_apps_share(tmp_path: Path) -> None:
    shared = environment(tmp_path / "one").executable
    python = environment(tmp_path / "two", "six==1.16.0\n").executable
    assert layers(python) == (shared.parents[1],)
    assert {path.name for path in site_packages(python).glob("*.py")} == {"six.py"}
    where = says(python, "import botocore, six; print(six.__file__, botocore.__file__)")
    assert (
        where == f"{site_packages(python) / 'six.py'} {site_packages(shared)}/botocore/__init__.py"
    )


def test_an_app_that_asks_for_nothing_else_needs_no_index(tmp_path: Path) -> None:
    """Not to resolve, and where the installation brings the shared layer, not at all."""
    environment(tmp_path / "shared")
    nowhere = {"PATH": os.environ["PATH"], "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    root = project(tmp_path / "app", {"requirements.txt": "boto3>=1.30\nurllib3\nchalice\n"})
    python = make_app_environment(
        versions_of(root), cache_dir=tmp_path / "cache", environ=nowhere, brought=cache_folder()
    )
    assert python.executable.is_relative_to(cache_folder())
    assert not (tmp_path / "cache/environments").exists()
    assert says(python.executable, IMPORTS) == DEFAULT_CHALICE


@pytest.mark.parametrize("line", ["boto3==1.40.0", "urllib3[socks]", "pip"])
def test_another_version_an_extra_or_a_tool_is_not_what_is_shared(
    tmp_path: Path, line: str
) -> None:
    shared = environment(tmp_path / "one").executable
    assert environment(tmp_path / "two", f"{line}\n").executable != shared


def test_what_chalice_is_said_to_need_is_what_it_says(tmp_path: Path) -> None:
    """The resolver is told the bounds instead of asking for the wheel."""
    chalice = "1.31.4" if sys.version_info[:2] <= (3, 12) else DEFAULT_CHALICE
    python = environment(tmp_path, chalice=chalice).executable
    script = "import importlib.metadata as m, json; print(json.dumps(m.requires('chalice')))"
    asked = [Requirement(text) for text in json.loads(says(python, script))]
    plain = {one.name: one.specifier for one in asked if one.marker is None}
    tools = {"pip", "inquirer", "setuptools", "wheel"}
    assert set(plain) - tools == set(CHALICE_NEEDS) - {"typing-extensions"}
    for name in set(plain) - tools - {"botocore"}:
        assert plain[name] == SpecifierSet(CHALICE_NEEDS[name])
    assert SpecifierSet(CHALICE_NEEDS["botocore"]) & plain["botocore"]


def test_pins_that_contradict_chalice_are_loaded_in_other_versions_with_a_notice(
    tmp_path: Path,
) -> None:
    """28 of 44 public projects: their own pins of boto3, botocore, PyYAML, urllib3 and Chalice."""
    requirements = "chalice==1.26.6\nsix==1.16.0\nbotocore==1.20.0\nclick==6.7\nurllib3==1.24\n"
    python = environment(tmp_path, requirements, chalice="1.34.0")
    assert says(python.executable, IMPORTS) == "1.34.0"
    assert says(python.executable, "import six; print(six.__version__)") == "1.16.0"
    told = {finding.subject: finding for finding in python.findings}
    assert set(told) <= {"botocore", "click", "urllib3"}
    assert "botocore" in told
    assert str(told["botocore"].at) == "requirements.txt:3"
    for finding in python.findings:
        assert (finding.rule, finding.severity) == ("load-dependency", Severity.NOTICE)
        assert 0 < len(finding.detail) <= 501
    loaded = says(python.executable, "import botocore; print(botocore.__version__)")
    assert told["botocore"].what == (
        "`botocore==1.20.0` cannot be installed for Python "
        f"{python.version} and Chalice 1.34.0: the app is loaded with version {loaded} instead. "
        "The package keeps to requirements.txt."
    )


CANARY = "import pathlib\npathlib.Path({!r}).write_text('it ran')\n"


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Index()) as running_index:
        yield running_index


def with_index(index: Index) -> Mapping[str, str]:
    """The public index, and this one before it."""
    return {**os.environ, "UV_INDEX": index.url}


def test_a_dependency_without_a_wheel_is_left_out_and_not_built(
    tmp_path: Path, index: Index
) -> None:
    canary = tmp_path / "canary"
    index.add("evilsdist-1.0.tar.gz", sdist("evilsdist", "1.0", CANARY.format(str(canary))))
    python = environment(
        tmp_path / "app",
        "evilsdist==1.0\nsix==1.16.0\n",
        environ=with_index(index),
        cache_dir=tmp_path / "cache",
    )
    (finding,) = python.findings
    assert (finding.subject, str(finding.at)) == ("evilsdist", "requirements.txt:1")
    assert finding.what.startswith("`evilsdist==1.0` is missing while the app is loaded")
    assert (finding.severity, finding.detail) == (
        Severity.WARNING,
        "It has no wheel for this Python.",
    )
    assert says(python.executable, "import six; print(six.__version__)") == "1.16.0"
    assert not canary.exists()


def test_nothing_of_a_dependency_runs_while_the_environment_is_made(
    tmp_path: Path, index: Index
) -> None:
    """A `.pth` file runs in every Python of its environment: so none is started there."""
    canary = tmp_path / "canary"
    line = f"import pathlib; pathlib.Path({str(canary)!r}).write_text('it ran')"
    data = wheel(
        "evilpth", "1.0", ("evilpth.pth", line.encode()), ("sitecustomize.py", line.encode())
    )
    index.add("evilpth-1.0-py3-none-any.whl", data)
    places = {"environ": with_index(index), "cache_dir": tmp_path / "cache"}
    python = environment(tmp_path / "app", "evilpth==1.0\n", **places)  # type: ignore[arg-type]
    again = environment(tmp_path / "app", "evilpth==1.0\n", **places)  # type: ignore[arg-type]
    assert python.executable == again.executable
    assert (site_packages(python.executable) / "evilpth.pth").exists()
    assert not canary.exists()
    assert says(python.executable, "print(1)") == "1"
    assert canary.exists()


def test_lines_that_cannot_be_packaged_are_left_out_of_loading_with_a_warning(
    tmp_path: Path,
) -> None:
    root = project(tmp_path / "app", {"setup.py": CANARY.format(str(tmp_path / "canary"))})
    python = environment(root, "-e .\n--no-binary :all:\nsix==1.16.0\n")
    assert says(python.executable, "import six; print(six.__version__)") == "1.16.0"
    assert [str(finding.at) for finding in python.findings] == [
        "requirements.txt:1",
        "requirements.txt:2",
    ]
    assert {finding.severity for finding in python.findings} == {Severity.WARNING}
    assert not (tmp_path / "canary").exists()


def test_the_sources_are_compiled_because_loads_may_not_write(tmp_path: Path) -> None:
    python = environment(tmp_path)
    compiled = site_packages(python.executable) / "chalice/__pycache__"
    assert len(list(compiled.glob("app.cpython-*.pyc"))) == 1


def test_an_unreachable_index_is_an_error_and_not_an_empty_environment(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
        "UV_HTTP_TIMEOUT": "2",
    }
    with pytest.raises(PackageError, match="could not be reached"):
        environment(tmp_path, "six==1.16.0\n", environ=environ, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache/resolutions").glob("*.json"))


def test_a_resolution_is_made_anew_after_a_day(tmp_path: Path) -> None:
    root = project(tmp_path / "app", {"requirements.txt": "six==1.16.0\n"})
    versions, cache = versions_of(root), tmp_path / "cache"
    make_app_environment(versions, cache_dir=cache, environ=os.environ)
    (kept,) = (cache / "resolutions").glob("*.json")
    made = kept.stat().st_mtime
    make_app_environment(
        versions, cache_dir=cache, environ=os.environ, clock=lambda: made + 23 * 3600
    )
    assert kept.stat().st_mtime == made
    os.utime(kept, (made - 10, made - 10))
    make_app_environment(versions, cache_dir=cache, environ=os.environ, clock=lambda: made + 86400)
    assert kept.stat().st_mtime != made - 10


def test_a_damaged_resolution_is_not_believed(tmp_path: Path) -> None:
    """A part of a lock may be a lock of less."""
    root = project(tmp_path / "app", {"requirements.txt": "six==1.16.0\n"})
    versions, cache = versions_of(root), tmp_path / "cache"
    right = make_app_environment(versions, cache_dir=cache, environ=os.environ)
    (kept,) = (cache / "resolutions").glob("*.json")
    whole = kept.read_text()
    kept.write_text(whole.replace("1.16.0", "1.17.0"))
    assert make_app_environment(versions, cache_dir=cache, environ=os.environ) == right
    assert kept.read_text() == whole


# --- the deployer's environment -------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids="-on-".join)
def test_every_supported_pair_has_a_deployer(pair: tuple[str, str]) -> None:
    """The table of supported pairs is a promise: its corners are made from the locks and import."""
    python = deployer(*pair)
    assert says(python, IMPORTS.replace("boto3, ", "")) == pair[0]
    assert chalice_dir(python).joinpath("app.py").is_file()


def test_a_lock_names_no_address_and_pins_by_hash() -> None:
    locks = sorted(path.name for path in resources.files("chalice_ci").joinpath("locks").iterdir())
    assert locks == sorted(["boto3.txt", *(f"chalice-{version}.txt" for version in SUPPORTED)])
    for version in SUPPORTED:
        text = deployer_lock(version)
        assert f"chalice=={version} " in text
        assert "://" not in text
        for entry in re.split(r"\n(?=\S)", text.strip()):
            assert re.match(r"[a-z0-9-]+==[0-9][\w.]* ", entry), entry
            assert "--hash=sha256:" in entry


def test_a_deployer_is_used_again_and_its_own_kind_of_python_is_found() -> None:
    own = running()
    if own.minor not in SUPPORTED[DEFAULT_CHALICE]:
        pytest.skip("the running Python is not supported")
    places = {"cache_dir": cache_folder(), "environ": os.environ}
    one = make_deployer_environment(DEFAULT_CHALICE, running=RUNNING, **places)  # type: ignore[arg-type]
    two = make_deployer_environment(DEFAULT_CHALICE, interpreter=own, **places)  # type: ignore[arg-type]
    assert one == two
    interpreter("3.10")
    old = make_deployer_environment("1.29.0", running=RUNNING, **places)  # type: ignore[arg-type]
    assert says(old, "import sys; print('%d.%d' % sys.version_info[:2])") == "3.10"


def test_an_unknown_chalice_has_no_deployer(tmp_path: Path) -> None:
    for version in ("1.26.6", "../../secret", ""):
        with pytest.raises(PackageError, match="no deployer"):
            make_deployer_environment(version, cache_dir=tmp_path, environ={})


def test_a_deployer_takes_nothing_from_extra_indexes(tmp_path: Path, index: Index) -> None:
    """Neither an extra index of the operator nor one of the app is asked."""
    environ = {
        **os.environ,
        "UV_INDEX": index.url,
        "UV_EXTRA_INDEX_URL": index.url,
        "PIP_EXTRA_INDEX_URL": index.url,
        "UV_FIND_LINKS": index.url,
        "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
        "PYTHONPATH": str(tmp_path),
    }
    make_deployer_environment(
        DEFAULT_CHALICE, cache_dir=tmp_path / "cache", environ=environ, running=RUNNING
    )
    assert index.requests == []


def test_a_mirror_that_serves_something_else_is_refused(tmp_path: Path, index: Index) -> None:
    names = re.findall(r"^([a-z0-9-]+)==(\S+)", deployer_lock(DEFAULT_CHALICE), re.MULTILINE)
    for name, version in names:
        filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        index.add(filename, wheel(name, version, (f"{name}.py", b"stolen")))
    environ = {**os.environ, "UV_DEFAULT_INDEX": index.url}
    with pytest.raises(PackageError) as caught:
        make_deployer_environment(
            DEFAULT_CHALICE, cache_dir=tmp_path / "cache", environ=environ, running=RUNNING
        )
    assert re.search(r"hash", str(caught.value), re.IGNORECASE)
    assert not [p for p in (tmp_path / "cache/environments").iterdir() if p.is_dir()]


# --- uv -------------------------------------------------------------------------------------------


def test_uv_knows_nothing_of_the_environment_but_what_it_needs(tmp_path: Path) -> None:
    environ = {
        "PATH": "/usr/bin",
        "AWS_SECRET_ACCESS_KEY": "canary",
        "GITHUB_TOKEN": "canary",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "canary",
        "UV_CONFIG_FILE": "/evil.toml",
        "UV_NO_BINARY": "1",
        "UV_PYTHON": "/evil",
        "PYTHONPATH": "/evil",
        "LD_PRELOAD": "/evil.so",
        "SSL_CERT_FILE": "/certificates.pem",
        "HTTPS_PROXY": "http://proxy.example:8080",
        "UV_INDEX": "https://index.example/simple",
        "UV_INDEX_PRIVATE_PASSWORD": "for the index",
        "PIP_INDEX_URL": "https://mirror.example/simple",
    }
    clean = clean_environ(environ, home=tmp_path, index=False)
    assert clean == {
        "PATH": "/usr/bin",
        "SSL_CERT_FILE": "/certificates.pem",
        "HTTPS_PROXY": "http://proxy.example:8080",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_KEYRING_PROVIDER": "disabled",
    }
    more = clean_environ(environ, home=tmp_path, index=True)
    assert set(more) - set(clean) == {"UV_INDEX", "UV_INDEX_PRIVATE_PASSWORD"}
    assert "canary" not in json.dumps(more)


def test_uv_reads_no_configuration_of_the_folder_it_runs_in(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text('python-downloads = "nonsense"\n')
    (tmp_path / "pyproject.toml").write_text("[tool.uv]\nnonsense = true\n")
    uv = find_uv(os.environ, cache_dir=tmp_path / "cache", index=False)
    assert uv.run(["pip", "compile", "--help"], cwd=tmp_path)


def test_uv_is_found_by_several_threads_at_once(tmp_path: Path) -> None:
    program = """
import pathlib, sys, threading
from chalice_ci.uv import find_uv
failed = []
threading.excepthook = failed.append
start = threading.Barrier(8)
sys.setswitchinterval(1e-6)
def find():
    start.wait()
    uv = find_uv({}, cache_dir=pathlib.Path(sys.argv[1]), index=False)
    uv.run(["--version"], cwd=uv.cache_dir)
threads = [threading.Thread(target=find) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit(str(failed[0].exc_value) if failed else 0)
"""
    subprocess.run([sys.executable, "-P", "-c", program, str(tmp_path)], check=True, timeout=60)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become another user")
def test_a_home_that_may_not_be_entered_is_no_obstacle(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    program = """
import os, pathlib, ssl, sys, tempfile
from chalice_ci.uv import find_uv
os.seteuid(65534)
with tempfile.TemporaryDirectory() as cache:
    find_uv({"HOME": sys.argv[1]}, cache_dir=pathlib.Path(cache), index=True)
"""
    subprocess.run([sys.executable, "-P", "-c", program, str(home)], check=True, timeout=60)


def test_credentials_in_addresses_are_masked() -> None:
    text = "failed: https://reader:canary@index.example/simple and http://token@other.example"
    assert masked(text) == (
        "failed: https://****@index.example/simple and http://****@other.example"
    )


def test_an_interpreter_has_an_identity_that_changes_with_it(tmp_path: Path) -> None:
    own = running()
    assert isinstance(own, Interpreter)
    assert own == describe(own.executable)
    assert len(own.identity) == 16
    assert own.identity != hashlib.sha256(b"").hexdigest()[:16]


@pytest.mark.parametrize("damaged", ["app.py", "../chalice-{}.dist-info/RECORD"])
def test_a_damaged_chalice_is_not_what_is_packaged(tmp_path: Path, damaged: str) -> None:
    """Its runtime goes into every package: it is made anew."""
    more = {"environ": os.environ, "interpreter": interpreter(SUPPORTED[DEFAULT_CHALICE][-2])}
    whole = genuine_chalice(DEFAULT_CHALICE, cache_dir=cache_folder(), **more)  # type: ignore[arg-type]
    environment = whole.parents[3]
    copy = tmp_path / "environments" / environment.name
    shutil.copytree(environment, copy, symlinks=True)
    (copy / whole.relative_to(environment) / damaged.format(DEFAULT_CHALICE)).write_text("")
    (tmp_path / "uv-deployer").symlink_to(cache_folder() / "uv-deployer")
    mended = genuine_chalice(DEFAULT_CHALICE, cache_dir=tmp_path, **more)  # type: ignore[arg-type]
    assert mended == copy / whole.relative_to(environment)
    for name in ("__init__.py", "app.py"):
        assert (mended / name).read_bytes() == (whole / name).read_bytes()
