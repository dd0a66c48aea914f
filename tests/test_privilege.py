"""Root that may do nothing for other users, as in containers whose capabilities were dropped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chalice_ci.app.interpreter import fresh_uid
from chalice_ci.privilege import acts_for_others
from support.commandline import environ, hello

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")


@ROOT_ONLY
@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("Name:\tx\nCapEff:\t000001ffffffffff\n", True),
        ("CapEff:\t00000000000000c1\n", True),
        ("CapEff:\t0000000000000000\n", False),
        ("CapEff:\t0000000000000041\n", False),
        ("CapEff:\t00000000000000c0\n", False),
        ("CapEff:\tnonsense\n", True),
        ("", True),
    ],
)
def test_the_capabilities_are_those_that_count(tmp_path: Path, text: str, may: bool) -> None:
    (tmp_path / "status").write_text(text)
    assert acts_for_others(tmp_path / "status") is may


@ROOT_ONLY
def test_where_nothing_tells_root_is_root(tmp_path: Path) -> None:
    assert acts_for_others(tmp_path / "none")


@ROOT_ONLY
@pytest.mark.skipif(fresh_uid() is None, reason="they were taken away here already")
def test_without_capabilities_an_app_is_checked_and_the_report_says_what_that_means(
    tmp_path: Path,
) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) takes them away")
    root = hello(tmp_path / "shop")
    command = [sys.executable, "-m", "chalice_ci", "check", "--format=json"]
    done = subprocess.run(
        [setpriv, "--bounding-set=-all", "--inh-caps=-all", *command],
        cwd=root,
        env=environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result, *_ = json.loads(done.stdout)["results"]
    assert result["isolation"]["level"] in ("partial", "none")
    assert any("without the capabilities CHOWN" in one for one in result["isolation"]["reasons"])
