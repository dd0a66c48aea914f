"""CodeBuild's reading of its buildspecs, CloudFormation's of the template, and a small `aws`.

Phases run as AWS's "Build phase transitions" and "Build specification reference for CodeBuild" say:
all commands in one shell, a phase ends at the first that fails, `post_build` comes also after a
`build` that failed, and not after a `pre_build` that did.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cfnlint.decode

from plugins.bench import Bench
from plugins.vendors import load
from support.commandline import Ran, git

PLUGIN = Path(__file__).parents[2] / "plugins/codebuild"
TEMPLATE = PLUGIN / "pipeline.yml"
PARAMETERS = {
    "Connection": "arn:aws:codeconnections:us-east-1:123456789012:connection/1",
    "Repository": "octo/orders",
    "App": "orders",
    "Stage": "prod",
    "StateBucket": "orders-state",
    "PlanPolicies": "arn:aws:iam::123456789012:policy/orders-plan",
    "DeployPolicies": "arn:aws:iam::123456789012:policy/orders-deploy",
}
PARTS = "orders-parts"
_BATCH = "arn:aws:codebuild:us-east-1:123456789012:build-batch/orders-check:"
_PHASES = """run() {{ for command in "$@"; do eval "$command" || return; done; }}
run {pre_build} || exit
run {build}
ended=$?
run {post_build} && exit "$ended"
"""

_AWS = """#!{python} -IS
# `aws codebuild batch-get-builds` and `aws s3 cp`, with the options of the AWS CLI's reference that
# the buildspecs use; S3 is asked over HTTP.
import http.client, os, pathlib, sys
def refuse(what):
    sys.exit("aws: " + what)
words = sys.argv[1:]
if "AWS_SECRET_ACCESS_KEY" not in os.environ:
    refuse("Unable to locate credentials")
if words[:2] == ["codebuild", "batch-get-builds"]:
    options = dict(zip(words[2::2], words[3::2]))
    own = options.pop("--ids", None) == os.environ["CODEBUILD_BUILD_ID"]
    wanted = {{"--query": "builds[0].buildBatchArn", "--output": "text"}}
    if not own or options != wanted:
        refuse("another question than is known here")
    print({batch!r} or None)
    sys.exit()
if words[:3] != ["s3", "cp", "--only-show-errors"]:
    refuse("unknown: " + " ".join(words))
recursive = words[3] == "--recursive"
source, target = words[3 + recursive:]
address = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
# The embedded AWS wants to know whose request it is, and believes it.
signed = "AWS4-HMAC-SHA256 Credential=%s/20200101/us-east-1/s3/aws4_request, SignedHeaders=host"
signed = signed % os.environ["AWS_ACCESS_KEY_ID"] + ", Signature=0"
def ask(method, name, body=None):
    asking = http.client.HTTPConnection(address)
    asking.request(method, "/" + name.removeprefix("s3://"), body, {{"Authorization": signed}})
    answer = asking.getresponse()
    if answer.status != 200:
        refuse("An error occurred (%d) of %s" % (answer.status, name))
    return answer.read()
if source.startswith("s3://"):
    if recursive:
        refuse("the role may not list")
    found = ask("GET", source)
    pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(target).write_bytes(found)
    sys.exit()
root = pathlib.Path(source)
for file in sorted(root.rglob("*")) if recursive else [root]:
    if file.is_file():
        name = target + "/" + file.relative_to(root).as_posix() if recursive else target
        ask("PUT", name, file.read_bytes())
    elif not recursive:
        refuse("The user-provided path %s does not exist." % source)
"""


class Build:
    """A build of a project: its variables, and the commands of its buildspec in one shell."""

    def __init__(self, bench: Bench, **variables: str) -> None:
        self.bench = bench
        self.variables = {
            "CODEBUILD_BUILD_ID": "orders:0190aa00-0000-4000-8000-000000000001",
            "CODEBUILD_BUILD_NUMBER": "7",
            "CODEBUILD_INITIATOR": "codepipeline/orders",
            "CODEBUILD_RESOLVED_SOURCE_VERSION": git(bench.workspace, "rev-parse", "HEAD"),
            "CODEBUILD_SRC_DIR": str(bench.workspace),
            "CI": "",
            **variables,
        }

    def run(self, name: str) -> Ran:
        spec = load(PLUGIN / f"{name}.yml")
        assert spec["env"]["shell"] == "bash"
        phases = {
            phase: shlex.join(spec["phases"].get(phase, {}).get("commands", ()))
            for phase in ("pre_build", "build", "post_build")
        }
        return self.bench.step(_PHASES.format(**phases), shell=("bash",), **self.variables)

    def artifacts(self, name: str, target: Path) -> Path:
        """What the build hands on: the files below the base directory."""
        kept = load(PLUGIN / f"{name}.yml")["artifacts"]
        assert kept["files"] == ["**/*"]
        base = self.bench.workspace / kept["base-directory"]
        return Path(shutil.copytree(base, target))


class Batch:
    """A batch build; `told` are the variables that the webhook and the project give each build."""

    def __init__(self, bench: Bench, batch: str, **told: str) -> None:
        self.bench, self.batch, self.told = bench, batch, told
        values = {"python": sys.executable, "batch": batch and _BATCH + batch}
        bench.program("aws", _AWS.format(**values))

    def run(self, identifier: str) -> Ran:
        """One of the builds, in a fresh checkout."""
        git(self.bench.workspace, "reset", "--hard", "--quiet")
        git(self.bench.workspace, "clean", "-dffxq")
        (task,) = [one for one in graph() if one["identifier"] == identifier]
        file = Path(task.get("buildspec", "many-apps.yml")).stem
        given = {**self.told, **task["env"]["variables"]}
        return Build(self.bench, CODEBUILD_BATCH_BUILD_IDENTIFIER=identifier, **given).run(file)


def graph() -> list[dict[str, Any]]:
    """The builds of the batch."""
    found: list[dict[str, Any]] = load(PLUGIN / "many-apps.yml")["batch"]["build-graph"]
    return found


def template(checks: str = "single") -> dict[str, Any]:
    """The template with its functions as JSON has them, and its conditions decided."""
    document, problems = cfnlint.decode.decode(str(TEMPLATE))
    assert not problems
    plain: dict[str, Any] = json.loads(json.dumps(document))
    holds = {name: _holds(rule, checks) for name, rule in plain.pop("Conditions").items()}
    plain["Resources"] = {
        name: resource
        for name, resource in plain["Resources"].items()
        if holds.get(resource.pop("Condition", ""), True)
    }
    decided: dict[str, Any] = _decided(plain, holds)
    return decided


def _holds(rule: Mapping[str, Any], checks: str) -> bool:
    match rule:
        case {"Fn::Not": [inner]}:
            return not _holds(inner, checks)
        case {"Fn::Equals": [{"Ref": "Checks"}, value]}:
            return bool(checks == value)
    raise AssertionError(rule)


_GONE = {"Ref": "AWS::NoValue"}


def _decided(value: Any, holds: Mapping[str, bool]) -> Any:
    match value:
        case {"Fn::If": [name, yes, no]}:
            return _decided(yes if holds[name] else no, holds)
        case dict():
            inner = {key: _decided(one, holds) for key, one in value.items()}
            return {key: one for key, one in inner.items() if one != _GONE}
        case list():
            return [one for one in (_decided(one, holds) for one in value) if one != _GONE]
    return value


def configured(project: str, action: str = "", checks: str = "single") -> dict[str, str]:
    """The variables of a project and of its action in the pipeline, as they would be filled in."""
    resources = template(checks)["Resources"]
    found: dict[str, str] = {}
    for one in resources[project]["Properties"]["Environment"]["EnvironmentVariables"]:
        found[one["Name"]] = filled(one["Value"])
    for stage in resources["Pipeline"]["Properties"]["Stages"]:
        for each in stage["Actions"]:
            if each["Name"] == action:
                told = json.loads(filled(each["Configuration"]["EnvironmentVariables"]))
                found |= {one["name"]: one["value"] for one in told}
    return found


def filled(value: Any) -> str:
    """A value of the template with parameters put in, and variables of the pipeline."""
    known = {"Image": "an/image:1", "Branch": "main", "SigningKey": "arn:secret", "Parts": PARTS}
    known |= PARAMETERS
    match value:
        case {"Ref": name}:
            return known[name]
        case {"Fn::Sub": str(text)}:
            inside = re.sub(r"\$\{(\w+)\}", lambda match: known[match[1]], text)
            pipeline = {
                "SourceVariables.BranchName": "main",
                "SourceVariables.CommitId": "COMMIT",
                "codepipeline.PipelineExecutionId": "0190aa00-0000-4000-8000-00000000000a",
            }
            return re.sub(r"#\{([\w.]+)\}", lambda match: pipeline[match[1]], inside)
    return str(value)
