"""The Azure templates: expanded as Azure does, valid for its schema, their scripts run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_azure import server
from offline_azure.server import OfflineAzure, offline_azure
from plugins.azure import expanded, macros
from plugins.bench import DEEP, Bench, Door
from plugins.vendors import complaints
from support.commandline import Ran, commit, git

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins/azure"
KEY = "a-signing-key-of-more-than-thirty-two-characters"


def find(name: str) -> Path:
    """A template of our repository, as another one or as a user names it."""
    return PLUGIN / Path(name.removesuffix("@chalice")).name


def pipeline() -> dict[str, Any]:
    whole: dict[str, Any] = expanded(PLUGIN / "azure-pipelines.yml", {}, find)
    return whole


def steps_of(stage: str) -> list[dict[str, Any]]:
    (found,) = [one for one in pipeline()["stages"] if one["stage"] == stage]
    (job,) = found["jobs"]
    if "deployment" in job:
        listed: list[dict[str, Any]] = job["strategy"]["runOnce"]["deploy"]["steps"]
        return listed
    return list(job["steps"])


class Agent:
    """Runs the steps of a job; artifacts are kept between jobs, commands are read from the log."""

    def __init__(self, bench: Bench, tmp_path: Path) -> None:
        self.bench, self.kept = bench, tmp_path / "artifacts"
        self.variables = {"CHALICE_CI_SIGNING_KEY": KEY}
        self.token = "token-of-the-agent"
        self.connections: list[str] = []
        self.summaries: list[str] = []
        self.results: list[Path] = []

    def run(self, listed: list[dict[str, Any]], **env: str) -> list[Ran]:
        shutil.rmtree(self.bench.workspace / "chalice-ci-out", ignore_errors=True)
        self.variables = {"CHALICE_CI_SIGNING_KEY": KEY}
        done: list[Ran] = []
        for step in listed:
            if any(ran.code for ran in done) and "condition" not in step:
                continue
            done += self._step(step, env)
        return done

    def _step(self, step: dict[str, Any], env: dict[str, str]) -> list[Ran]:
        here = self.bench.workspace
        names = {
            "Build.SourcesDirectory": str(here),
            "Pipeline.Workspace": str(self.kept),
            "System.AccessToken": self.token,
            **self.variables,
        }
        match step:
            case {"checkout": "self", "fetchDepth": 0, "persistCredentials": False}:
                pass
            case {"bash": script}:
                own = {n: macros(str(v), names) for n, v in step.get("env", {}).items()}
                cwd = Path(macros(step["workingDirectory"], names))
                keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
                hidden = {**keys, **self.said(), **env, **own}
                ran = self.bench.step(macros(script, names), shell=("bash",), cwd=cwd, **hidden)
                for line in ran.out.splitlines():
                    if line.startswith("##vso[task.uploadsummary]"):
                        self.summaries.append(Path(line.partition("]")[2]).read_text())
                return [ran]
            case {"task": "AWSShellScript@1", "inputs": inputs}:
                # The toolkit puts what STS gave for the connection into the script's environment.
                self.connections.append(inputs["awsCredentials"])
                assert inputs["scriptType"] == "inline"
                ran = self.bench.step(inputs["inlineScript"], AWS_SESSION_TOKEN="of the session")
                for name, value in re.findall(
                    r"^##vso\[task\.setvariable variable=(\w+);issecret=true\](.*)$", ran.out, re.M
                ):
                    self.variables[name] = value
                return [ran]
            case {"publish": path}:
                source, target = here / path, self.kept / macros(step["artifact"], env)
                target.mkdir(parents=True)
                shutil.copy(source, target) if source.is_file() else shutil.copytree(
                    source, target, dirs_exist_ok=True
                )
            case {"download": "current", "artifact": name}:
                assert (self.kept / name).is_dir()
            case {"task": "PublishTestResults@2"}:
                path = here / step["inputs"]["testResultsFiles"]
                self.results += [path] if path.exists() else []
            case {"task": "DownloadPipelineArtifact@2"}:
                target = Path(macros(step["inputs"]["targetPath"], names))
                for found in self.kept.glob(step["inputs"]["itemPattern"]):
                    place = target / found.relative_to(self.kept)
                    place.parent.mkdir(parents=True)
                    shutil.copy(found, place)
            case _:
                raise AssertionError(f"what does Azure do at {step}?")
        return []

    def said(self) -> dict[str, str]:
        return {
            "TF_BUILD": "True",
            "BUILD_REASON": "IndividualCI",
            "BUILD_BUILDID": "7",
            "BUILD_SOURCEBRANCH": "refs/heads/feature",
            "BUILD_SOURCEVERSION": git(self.bench.workspace, "rev-parse", "HEAD"),
            "BUILD_REPOSITORY_NAME": "octo/orders",
            "BUILD_REPOSITORY_ID": "octo/orders",
            "BUILD_REPOSITORY_PROVIDER": "GitHub",
            "SYSTEM_COLLECTIONURI": "https://dev.azure.com/octo/",
            "SYSTEM_TEAMPROJECT": "orders",
            "CI": "",
        }


@pytest.fixture
def agent(bench: Bench, tmp_path: Path) -> Agent:
    return Agent(bench, tmp_path)


def without_extensions(value: Any) -> Any:
    """The AWS Toolkit's task as a script: the schema knows Microsoft's own tasks only."""
    match value:
        case {"task": "AWSShellScript@1", "displayName": str(name), "inputs": dict(inputs)}:
            # The toolkit's user guide, "AWS Shell Script task".
            assert inputs.keys() == {"awsCredentials", "scriptType", "inlineScript"}
            return {"bash": inputs["inlineScript"], "displayName": name}
        case dict():
            return {key: without_extensions(inner) for key, inner in value.items()}
        case list():
            return [without_extensions(inner) for inner in value]
    return value


def test_the_expanded_pipelines_fit_the_schema() -> None:
    assert not complaints("azure-pipelines", without_extensions(pipeline()))
    previews = expanded(PLUGIN / "previews.yml", {}, find)
    assert not complaints("azure-pipelines", without_extensions(previews))
    parts = expanded(PLUGIN / "many-apps.yml", {"connection": "aws-deploy"}, find)
    assert not complaints("azure-pipelines", without_extensions(parts))
    assert complaints("azure-pipelines", {"stages": [{"stage": "x", "jobs": [{"jobb": "y"}]}]})


def test_production_is_a_deployment_to_an_environment_after_its_plan() -> None:
    stages = {stage["stage"]: stage for stage in pipeline()["stages"]}
    (job,) = stages["deploy_prod"]["jobs"]
    assert (job["deployment"], job["environment"]) == ("deploy", "production")
    assert stages["deploy_prod"]["dependsOn"] == "plan_prod"
    # Its own connection: a plan can't deploy.
    connections = [
        [one["inputs"]["awsCredentials"] for one in steps_of(stage) if "awsCredentials" in str(one)]
        for stage in ("check", "run", "plan_prod", "deploy_prod")
    ]
    assert connections == [[], ["aws-deploy"], ["aws-plan"], ["aws-deploy"]]


def test_a_check_has_no_credentials_and_shows_its_findings(agent: Agent, started: Door) -> None:
    app = agent.bench.workspace / "app.py"
    app.write_text(app.read_text() + "\n@app.on_ws_message()\ndef said(event):\n    pass\n")
    first, shown = agent.run(steps_of("check"))
    assert not agent.connections
    assert (first.code, shown.code) == (1, 0)
    (asked,) = started.asked
    assert not asked.env.get("AWS_SECRET_ACCESS_KEY")
    assert "token-of-the-agent" not in json.dumps([asked.env, agent.bench.calls])
    assert "##vso[task.logissue type=error;sourcepath=app.py;linenumber=" in first.out
    assert "##vso[task.setvariable variable=failure_reason;isOutput=true]findings" in first.out
    assert "orders" in agent.summaries[0]
    assert len(agent.results) == 1


def test_the_plan_that_was_approved_is_what_is_deployed(
    agent: Agent, functions: Callable[..., list[str]]
) -> None:
    tag = {"BUILD_SOURCEBRANCH": "refs/tags/v1"}
    assert [ran.code for ran in agent.run(steps_of("plan_prod"), **tag)] == [0, 0, 0]
    assert functions("eu-west-1") == []
    done = agent.run(steps_of("deploy_prod"), **tag)
    assert [ran.code for ran in done] == [0, 0, 0, 0], done
    assert agent.connections == ["aws-plan", "aws-deploy"]
    assert functions("eu-west-1") == ["hello-prod-order"]
    assert "##vso[task.setvariable variable=changed;isOutput=true]true" in done[2].out


def test_the_container_knows_all_that_the_product_reads_and_no_unset_macro(
    agent: Agent, started: Door
) -> None:
    files = ("systems/azure.py", "forge/azure_api.py")
    text = "".join((ROOT / "src/chalice_ci" / file).read_text() for file in files)
    read = set(re.findall(r'(?:env, |env\.get\()"([A-Z_]+)"', text))
    assert len(read) > 12
    (step, *_) = expanded(PLUGIN / "steps.yml", {"verb": "url"}, find)["steps"]
    unset = {"CHALICE_CI_SIGNING_KEY": "$(CHALICE_CI_SIGNING_KEY)"}
    jobs = {"SYSTEM_JOBPOSITIONINPHASE": "2", "SYSTEM_TOTALJOBSINPHASE": "4"}
    agent.run([step], **dict.fromkeys(read, ""), **unset, **jobs)
    (asked,) = started.asked
    assert asked.env["CHALICE_CI_SHARE"] == "2/4"
    assert read <= asked.env.keys()
    assert "CHALICE_CI_SIGNING_KEY" not in asked.env


@pytest.fixture
def repos() -> Iterator[OfflineAzure]:
    with offline_azure() as place:
        yield place
        assert place.invalid == []


def at_home(repos: OfflineAzure, agent: Agent, number: int, **more: str) -> dict[str, str]:
    """The variables of a build of a pull request in Azure Repos; of a branch for number 0."""
    here = agent.bench.workspace
    agent.token = server.TOKEN
    head, main = git(here, "rev-parse", "HEAD"), git(here, "rev-parse", "origin/main")
    repos.branches = {"main": main}
    repos.files = {main: {"chalice-ci.yml": git(here, "show", f"{main}:chalice-ci.yml")}}
    home = {
        "BUILD_REPOSITORY_PROVIDER": "TfsGit",
        "BUILD_REPOSITORY_ID": server.REPOSITORY,
        "BUILD_REPOSITORY_NAME": server.NAME,
        "SYSTEM_COLLECTIONURI": repos.collection,
        "SYSTEM_TEAMPROJECT": server.PROJECT,
    }
    pull = {
        "BUILD_REASON": "PullRequest",
        "BUILD_SOURCEBRANCH": f"refs/pull/{number}/merge",
        "SYSTEM_PULLREQUEST_PULLREQUESTID": str(number),
        "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/change",
        "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main",
        "SYSTEM_PULLREQUEST_SOURCECOMMITID": head,
        "SYSTEM_PULLREQUEST_ISFORK": "False",
    }
    return home | (pull if number else {}) | more


def test_a_pull_request_in_azure_repos_gets_one_comment_and_the_app_no_token(
    agent: Agent, repos: OfflineAzure, started: Door
) -> None:
    app = agent.bench.workspace / "app.py"
    looks = "import os\n\nassert not [n for n in os.environ if 'TOKEN' in n or 'PAT' == n[-3:]]\n"
    app.write_text(app.read_text() + looks)
    number = repos.pull_request(head=git(agent.bench.workspace, "rev-parse", "HEAD"))
    for build in ("7", "8"):
        ran, *_ = agent.run(steps_of("check"), **at_home(repos, agent, number, BUILD_BUILDID=build))
        assert ran.code == 0, ran.out + ran.err
    (told,) = repos.told(number)
    assert '"run":8' in told.partition("\n")[0]
    assert "orders" in told
    assert f"{repos.collection}Back%20end/_build/results?buildId=8" in told
    # What the base's configuration allows was read, and the comment written, as one identity.
    assert {"refs", "file", "threads", "edit"} <= set(repos.seen)
    assert {one.env["SYSTEM_ACCESSTOKEN"] for one in started.asked} == {server.TOKEN}
    assert server.TOKEN not in ran.out + ran.err + json.dumps(agent.bench.calls)


def test_a_build_that_may_not_comment_says_how_to_let_it_and_passes(
    agent: Agent, repos: OfflineAzure
) -> None:
    number = repos.pull_request(head=git(agent.bench.workspace, "rev-parse", "HEAD"))
    repos.permissions = ("GenericRead",)
    ran, *_ = agent.run(steps_of("check"), **at_home(repos, agent, number))
    assert ran.code == 0, ran.out + ran.err
    assert "Contribute to pull requests" in ran.out + ran.err
    assert "Build Service" in agent.summaries[0]


@pytest.mark.parametrize(
    "env", [{"SYSTEM_PULLREQUEST_ISFORK": "True"}, {"BUILD_REPOSITORY_PROVIDER": "GitHub"}]
)
def test_no_token_goes_where_it_is_of_no_use(
    agent: Agent, repos: OfflineAzure, started: Door, env: dict[str, str]
) -> None:
    given = at_home(repos, agent, repos.pull_request(), AZURE_DEVOPS_EXT_PAT="personal")
    (step, *_) = expanded(PLUGIN / "steps.yml", {"verb": "url"}, find)["steps"]
    agent.run([step], **{**given, **env})
    (asked,) = started.asked
    assert not {"SYSTEM_ACCESSTOKEN", "AZURE_DEVOPS_EXT_PAT"} & asked.env.keys()
    assert repos.seen == []


def test_a_preview_goes_up_with_its_address_and_down_when_its_pull_request_is_completed(
    agent: Agent, repos: OfflineAzure, functions: Callable[..., list[str]]
) -> None:
    here = agent.bench.workspace
    file = here / "chalice-ci.yml"
    file.write_text(file.read_text() + "preview: {like: dev, label: preview}\n")
    commit(here, "Preview")
    git(here, "update-ref", "refs/remotes/origin/main", "HEAD")
    number = repos.pull_request(head=git(here, "rev-parse", "HEAD"))
    preview, sweep = expanded(PLUGIN / "previews.yml", {}, find)["jobs"]
    pull = at_home(repos, agent, number)
    assert {ran.code for ran in agent.run(preview["steps"], **pull)} == {0}
    assert functions("eu-west-1") == []
    repos.label(number, "preview")
    done = agent.run(preview["steps"], **{**pull, "BUILD_BUILDID": "8"})
    assert {ran.code for ran in done} == {0}, done
    assert functions("eu-west-1") == [f"hello-pr-{number}-order"]
    begun, ended = repos.statuses
    assert (begun["state"], ended["state"]) == ("pending", "succeeded")
    assert ended["number"] == number
    branch = at_home(repos, agent, 0, BUILD_SOURCEBRANCH="refs/heads/main", BUILD_BUILDID="9")
    assert {ran.code for ran in agent.run(sweep["steps"], **branch)} == {0}
    assert functions("eu-west-1") == [f"hello-pr-{number}-order"]
    repos.pulls[number]["status"] = "completed"
    done = agent.run(sweep["steps"], **branch)
    assert {ran.code for ran in done} == {0}, done
    assert functions("eu-west-1") == []
    (told,) = repos.told(number)
    assert re.search(rf"\| pr-{number} \| .*removed", told), told
    assert agent.connections == ["aws-preview"] * 4


@pytest.mark.skipif(not DEEP, reason="CircleCI's parts are run always; PLUGINS_DEPTH=all")
def test_equal_jobs_share_a_run_and_are_folded(agent: Agent, repos: OfflineAzure) -> None:
    part, report = expanded(PLUGIN / "many-apps.yml", {"jobs": 2}, find)["jobs"]
    number = repos.pull_request(head=git(agent.bench.workspace, "rev-parse", "HEAD"))
    pull = at_home(repos, agent, number)
    for position in ("1", "2"):
        numbers = {"SYSTEM_JOBPOSITIONINPHASE": position, "SYSTEM_TOTALJOBSINPHASE": "2"}
        macro = {"System.JobPositionInPhase": position, "System.JobAttempt": "1"}
        ran = agent.run(part["steps"], **numbers, **macro, **pull)
        assert {one.code for one in ran} == {0}
        assert repos.told(number) == []
    assert {ran.code for ran in agent.run(report["steps"], **pull)} == {0}
    folded = json.loads((agent.bench.workspace / "chalice-ci-out/report.json").read_text())
    assert sorted(result["stage"] for result in folded["results"]) == ["dev", "prod"]
    (told,) = repos.told(number)
    assert "prod" in told
