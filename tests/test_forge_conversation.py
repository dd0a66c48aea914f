"""A run's whole conversation with a pull request on Bitbucket and in Azure Repos, over HTTP."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from chalice_ci.ci_secrets import Secrets
from chalice_ci.context import Context, PullRequest, RunOrder, System
from chalice_ci.conversation import Conversation
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.forge.azure import LARGEST_COMMENT as LARGEST_IN_AZURE
from chalice_ci.forge.azure import AzureForge
from chalice_ci.forge.azure_api import AzureApi
from chalice_ci.forge.bitbucket import LARGEST_COMMENT, BitbucketApi, BitbucketForge
from chalice_ci.forge.port import Forge
from chalice_ci.inputs import read_inputs
from chalice_ci.report.comment import units
from chalice_ci.report.progress import Progress
from chalice_ci.scene import Scene
from chalice_ci.world import World
from offline_azure import server as azure
from offline_azure.server import OfflineAzure, offline_azure
from offline_bitbucket.server import REPOSITORY, TOKEN, OfflineBitbucket, offline_bitbucket
from support.reports import FULL


def on_bitbucket(place: OfflineBitbucket) -> Forge:
    return BitbucketForge(BitbucketApi(REPOSITORY, token=TOKEN, api_url=place.url))


def in_azure_repos(place: OfflineAzure) -> Forge:
    return AzureForge(
        AzureApi(
            collection=place.collection,
            project=azure.PROJECT,
            repository=azure.REPOSITORY,
            token=azure.TOKEN,
        )
    )


def scene(forge: Forge, system: System, number: int, tmp_path: Path) -> Scene:
    now = forge.pull_request(number)
    pull = PullRequest(
        number=number,
        head_sha=now.head_sha,
        base_sha=now.base_sha,
        head_branch=now.head_ref,
        base_branch=now.base_ref,
        fork=False,
    )
    said = io.StringIO()
    world = World(
        env={},
        cwd=tmp_path,
        now=lambda: datetime.now(UTC),
        stdout=said,
        stderr=said,
        python=Path(sys.executable),
        uid=0,
    )
    return Scene(
        world=world,
        inputs=read_inputs({}, {}),
        progress=Progress(stream=said, quiet=False, redact=lambda text: text),
        secrets=Secrets(),
        out=tmp_path / "out",
        forge=forge,
        context=Context(
            system=system,
            event="pull_request",
            repository=REPOSITORY,
            commit=now.head_sha,
            pull_request=pull,
            run=RunOrder(id=7),
            page="https://bitbucket.org/octo/orders/pipelines/results/7",
        ),
    )


def many(letter: str) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            rule="config",
            severity=Severity.WARNING,
            what=f"problem {number} " + letter * 300,
            at=Place(file="app.py", line=number),
            app="orders",
            stage="dev",
        )
        for number in range(1, 251)
    )


def test_a_report_that_is_longer_than_a_comment_is_told_in_one_and_at_the_lines(
    tmp_path: Path,
) -> None:
    result = replace(FULL.results[0], findings=many("x"))
    with offline_bitbucket() as place:
        number = place.pull_request()
        said = Conversation(scene=scene(on_bitbucket(place), System.BITBUCKET, number, tmp_path))
        url = said.conclude((result,), ())
        assert said.troubles == []
        (comment,) = place.comments[number]
        assert url == comment["links"]["html"]["href"]
        text = comment["content"]["raw"]
        assert 20_000 < len(text) <= LARGEST_COMMENT
        assert "<details>" not in text
        (annotations,) = place.annotations.values()
        assert len(annotations) == 250
        assert place.seen.count("annotations") == 3
        (report,) = place.reports.values()
        assert report["link"].endswith("/pipelines/results/7")
        assert place.invalid == []


def test_what_bitbucket_refuses_is_said_and_breaks_nothing(tmp_path: Path) -> None:
    with offline_bitbucket() as place:
        number = place.pull_request()
        told = scene(on_bitbucket(place), System.BITBUCKET, number, tmp_path)
        place.scopes = ("pullrequest",)
        said = Conversation(scene=told)
        assert said.conclude(FULL.results, ()) == ""
        findings, comment = said.troubles
        assert "findings could not be shown" in findings
        assert "comment could not be written" in comment
        assert "account" in comment


def test_in_azure_repos_a_long_report_is_measured_as_azure_measures_it(tmp_path: Path) -> None:
    result = replace(FULL.results[0], findings=many("🚀"))
    with offline_azure() as place:
        number = place.pull_request()
        told = scene(in_azure_repos(place), System.AZURE, number, tmp_path)
        said = Conversation(scene=told)
        assert said.conclude((result,), ()).endswith("?discussionId=3")
        assert said.troubles == []
        (text,) = place.told(number)
        assert LARGEST_IN_AZURE * 0.9 < units(text) <= LARGEST_IN_AZURE
        assert text.count("<details>") == text.count("</details>") >= 1
        assert place.invalid == []


def test_what_azure_repos_refuses_is_said_and_breaks_nothing(tmp_path: Path) -> None:
    with offline_azure() as place:
        number = place.pull_request()
        told = scene(in_azure_repos(place), System.AZURE, number, tmp_path)
        place.permissions = ("GenericRead",)
        said = Conversation(scene=told)
        assert said.conclude(FULL.results, ()) == ""
        (trouble,) = said.troubles
        assert "comment could not be written" in trouble
        assert "Contribute to pull requests" in trouble
