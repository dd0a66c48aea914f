"""`chalice-ci package` builds the packages that `chalice package` builds, member by member."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalice_ci.app.pythons import Interpreter
from support.chalicecli import (
    COMBINATIONS,
    Combination,
    PlainChalice,
    kept_folder,
    plain_environment,
)
from support.shapes import REGION, SHAPES, Shape, copy_shape
from support.stories import app_key, chalice_ci, make_repository, tool_environ

PACKAGED = tuple(shape for shape in SHAPES if shape.packages and not shape.check.errors)


@dataclass(frozen=True, kw_only=True)
class Packages:
    """Where both put what they built: a folder per app."""

    combination: Combination
    plain: Path
    ours: Path
    plain_said: str
    ours_said: str


@pytest.fixture(
    scope="module",
    # The newest and the oldest: the members of all combinations are compared after their deploy.
    params=[pytest.param(chosen, id=str(chosen)) for chosen in (COMBINATIONS[0], COMBINATIONS[-1])],
)
def combination(request: pytest.FixtureRequest) -> Combination:
    """The combinations whose packages are compared on their own."""
    chosen: Combination = request.param
    return chosen


@pytest.fixture(scope="module")
def packages(combination: Combination, pythons: Mapping[str, Interpreter], root: Path) -> Packages:
    """All shapes that plain `chalice package` accepts, packaged by both."""
    shapes = [shape for shape in PACKAGED if combination.chalice in shape.versions]
    environ = {**tool_environ(root / "home"), "AWS_DEFAULT_REGION": REGION}
    failures = []
    (python,) = pythons.values()
    plain = plain_environment(combination.chalice, python)
    with PlainChalice(plain, environ=environ) as chalice:
        for shape in shapes:
            project = copy_shape(shape, root / "apps" / shape.name)
            for app in shape.apps:
                out = root / "plain-packages" / app_key(shape, app)
                said = chalice.run(project / app, ["package", "--stage", "dev", str(out)])
                if said.code:
                    failures.append(f"{shape}: exit code {said.code}\n{said.text}")
    repository = make_repository(root / "repository", shapes, combination)
    arguments = ["package", "--stage=dev", f"--out={root}/packages"]
    arguments += [f"--python-path={python.executable}", f"--cache-dir={kept_folder()}/cache"]
    said = chalice_ci(arguments, cwd=repository, environ=environ)
    return Packages(
        combination=combination,
        plain=root / "plain-packages",
        ours=root / "packages",
        plain_said="\n".join(failures),
        ours_said=said.text if said.code else "",
    )


def test_both_package_each_shape(packages: Packages) -> None:
    assert not packages.plain_said
    assert not packages.ours_said


@pytest.mark.parametrize("shape", PACKAGED, ids=str)
def test_the_members_of_the_packages_are_the_same(packages: Packages, shape: Shape) -> None:
    if packages.combination.chalice not in shape.versions:
        pytest.skip(f"{shape.name} needs Chalice {' or '.join(shape.versions)}")
    for app in shape.apps:
        plain = packages.plain / app_key(shape, app)
        ours = packages.ours / app_key(shape, app) / "dev"
        archives = sorted(path.name for path in plain.glob("*.zip"))
        assert "deployment.zip" in archives
        assert sorted(path.name for path in ours.glob("*.zip")) == archives
        for name in archives:
            assert _members(ours / name) == _members(plain / name)


@pytest.mark.parametrize("shape", PACKAGED, ids=str)
def test_the_templates_are_the_same(packages: Packages, shape: Shape) -> None:
    if packages.combination.chalice not in shape.versions:
        pytest.skip(f"{shape.name} needs Chalice {' or '.join(shape.versions)}")
    for app in shape.apps:
        plain = packages.plain / app_key(shape, app) / "sam.json"
        ours = packages.ours / app_key(shape, app) / "dev" / "sam.json"
        assert _template(ours) == _template(plain)


def _members(archive: Path) -> dict[str, tuple[int, int]]:
    with zipfile.ZipFile(archive) as opened:
        return {
            info.filename: (info.CRC, info.file_size)
            for info in opened.infolist()
            if not info.is_dir()
        }


def _template(file: Path) -> Any:
    """The template without the random Sids of its policies."""
    text = file.read_text(encoding="utf-8")
    return json.loads(re.sub(r'"Sid": "[0-9a-f]{32}"', '"Sid": "random"', text))
