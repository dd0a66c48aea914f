"""GitLab's pipeline for many apps: valid, and its scripts run as a runner runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from offline_gitlab import server
from offline_gitlab.server import offline_gitlab
from plugins.bench import DEEP, Bench
from plugins.vendors import complaints, load
from support.commandline import git

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "plugins/gitlab/many-apps.yml"


def test_the_example_fits_the_schema_and_reports_after_every_part() -> None:
    document = load(EXAMPLE)
    assert not complaints("gitlab-ci", document)
    part, report = document["chalice-part"], document["chalice-report"]
    assert report["needs"] == ["chalice-part"]
    assert {rule.pop("when") for rule in report["rules"]} == {"always"}
    assert report["rules"] == part["rules"], "each event that has parts has a report"
    assert part["artifacts"]["when"] == "always"


@pytest.mark.skipif(not DEEP, reason="CircleCI's parts are run always; PLUGINS_DEPTH=all")
def test_parallel_jobs_share_a_pipeline_and_are_folded(bench: Bench, tmp_path: Path) -> None:
    document, kept = load(EXAMPLE), tmp_path / "artifacts"
    here = bench.workspace
    with offline_gitlab() as gitlab:
        said = {
            "GITLAB_CI": "true",
            "CI_PROJECT_ID": str(server.PROJECT),
            "CI_PROJECT_PATH": server.PATH,
            "CI_SERVER_URL": gitlab.url,
            "CI_API_V4_URL": gitlab.api_url,
            "CI_DEFAULT_BRANCH": "main",
            "CI_PIPELINE_ID": "1500",
            "CI_PIPELINE_SOURCE": "push",
            "CI_COMMIT_BRANCH": "feature",
            "CI_COMMIT_SHA": git(here, "rev-parse", "HEAD"),
            "GITLAB_TOKEN": server.TOKEN,
        }
        for number in ("1", "2"):
            job = document["chalice-part"]
            nodes = {"CI_NODE_INDEX": number, "CI_NODE_TOTAL": "2"}
            ran = bench.step("\n".join(job["script"]), **said, **nodes, **job["variables"])
            assert ran.code == 0, ran.out + ran.err
            (pattern,) = job["artifacts"]["paths"]
            for path in here.glob(pattern):
                target = kept / path.relative_to(here)
                target.parent.mkdir(parents=True)
                shutil.copy(path, target)
            shutil.rmtree(here / "chalice-ci-out")
        shutil.copytree(kept, here, dirs_exist_ok=True)
        job = document["chalice-report"]
        ran = bench.step("\n".join(job["script"]), **said, **job["variables"])
        assert ran.code == 0, ran.out + ran.err
        assert not gitlab.invalid
    folder = here / Path(job["artifacts"]["reports"]["junit"]).parent
    report = json.loads((folder / "report.json").read_text())
    assert sorted(result["stage"] for result in report["results"]) == ["dev", "prod"]
    assert (folder / "junit.xml").is_file()
