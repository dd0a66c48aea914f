"""The verb `diff` and what a run tells of a change, on real apps through the command line."""

from __future__ import annotations

import json
import shutil
import uuid

import jsonschema
import pytest

from chalice_ci.forge.local import LocalForge
from chalice_ci.local import EmbeddedAWS
from chalice_ci.report.document import schema
from chalice_ci.snapshot_document import parse
from chalice_ci.snapshot_document import schema as snapshot_schema
from support.commandline import APP, APPS, CONFIG, chalice_ci, commit, git, hello, write
from support.inprocess import run_here
from support.steps import event, pull_request

SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAWS.start() as running:
        yield running


@pytest.fixture
def account(aws):
    aws.reset()
    return {**aws.environ, "CHALICE_CI_GATEWAY_URL": aws.gateway_url}


def differing(repository, *arguments, **env):
    ran = run_here("diff", "--stage", "dev", "--format", "json", *arguments, cwd=repository, **env)
    assert ran.code == 0, ran.out + ran.err
    jsonschema.validate(ran.report, schema())
    return ran.result["difference"]


def told(difference):
    return {(item["area"], item["kind"], item["subject"]) for item in difference["items"]}


def risks(difference):
    return {(item["subject"], one["risk"]) for item in difference["items"] for one in item["risks"]}


def app(tmp_path, name):
    """A repository with an app of the corpus at its root."""
    repository = tmp_path / name
    shutil.copytree(APPS / name, repository)
    git(repository, "init", "--quiet", "--initial-branch", "main")
    commit(repository, "Begin")
    return repository


def edit(repository, *pairs, file="app.py"):
    path = repository / file
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_what_is_not_committed_is_compared_with_the_commit(tmp_path):
    repository = app(tmp_path, "authorizers")
    assert differing(repository)["empty"]
    edit(
        repository,
        ('@app.route("/pool", authorizer=pool)', '@app.route("/pool")'),
        ('@app.route("/open")', '@app.route("/open", cors=True)'),
        ("ttl_seconds=30", "ttl_seconds=60"),
        ('@app.route("/iam", authorizer=iam)', '@app.route("/iam2", authorizer=iam)'),
    )
    found = differing(repository)
    assert found["baseline"]["kind"] == "base"
    assert found["baseline"]["commit"] == git(repository, "rev-parse", "HEAD")
    assert told(found) == {
        ("route", "changed", "GET /pool"),
        ("route", "changed", "GET /open"),
        ("route", "added", "GET /iam2"),
        ("route", "removed", "GET /iam"),
        ("authorizer", "changed", "foreign"),
    }
    assert risks(found) == {("GET /pool", "weakened"), ("GET /open", "weakened")}
    assert [f["path"] for f in found["package"]["files"]["listed"]] == ["app.py"]


def test_every_kind_of_resource_is_told_with_what_it_means(tmp_path):
    repository = app(tmp_path, "everything")
    edit(
        repository,
        ("@app.on_sqs_message(", "@app.on_sqs_message(name='jobs', "),
        ("@app.on_ws_disconnect()", ""),
    )
    edit(
        repository,
        (
            '"stages": {',
            '"lambda_memory_size": 512, "api_gateway_endpoint_type": "REGIONAL", "stages": {',
        ),
        file=".chalice/config.json",
    )
    found = differing(repository)
    assert {
        ("api", "changed", "REST API"),
        ("route", "removed", "WebSocket $disconnect"),
        ("function", "removed", "queued"),
        ("function", "added", "jobs"),
        ("function", "removed", "websocket_disconnect"),
        ("function", "changed", "api_handler"),
        ("trigger", "added", "sqs jobs-sqs-event-source"),
        ("trigger", "removed", "sqs queued-sqs-event-source"),
    } <= told(found)
    assert found["destructive"]
    assert {("REST API", "destructive"), ("queued", "destructive")} <= risks(found)
    lost = next(item for item in found["items"] if item["subject"] == "queued")
    assert "`jobs` runs its handler now" in lost["risks"][0]["why"]


POLICY = {"Version": "2012-10-17", "Statement": []}


def test_two_commits_are_compared_whatever_is_checked_out(tmp_path):
    config = json.loads(CONFIG)
    config["stages"]["dev"] = {"autogen_policy": False, "iam_policy_file": "policy.json"}
    allow = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    files = {
        ".chalice/config.json": json.dumps(config),
        ".chalice/policy.json": json.dumps({**POLICY, "Statement": [allow]}),
    }
    repository = hello(tmp_path / "r", **files)
    one = git(repository, "rev-parse", "HEAD")
    wide = {"Version": "2012-10-17", "Statement": {**allow, "Action": ["s3:*"]}}
    write(repository, {".chalice/policy.json": json.dumps(wide)})
    commit(repository)
    write(repository, {"app.py": "this is no Python"})
    there = differing(repository, "--from", one, "--to", "main")
    assert told(there) == {("role", "changed", "api_handler_role")}
    assert risks(there) == {("api_handler_role", "wildcard"), ("api_handler_role", "widened")}
    back = differing(repository, "--from", "main", "--to", one[:10])
    assert risks(back) == set()
    assert (there["baseline"]["kind"], back["baseline"]["kind"]) == ("commit", "commit")


def test_a_base_that_cannot_be_built_is_said_and_the_rest_is_told(tmp_path):
    repository = hello(tmp_path / "r", **{"app.py": "def broken(:\n"})
    write(repository, {"app.py": APP})
    ran = run_here("diff", "--stage", "dev", "--format", "json", cwd=repository)
    assert ran.code == 0, ran.out + ran.err
    jsonschema.validate(ran.report, schema())
    found = ran.result["difference"]
    assert "can't be built" in found["baseline"]["problem"]
    assert (found["items"], found["package"]) == ([], None)
    assert ran.result["package"]["size"] > 0
    text = run_here("diff", "--stage", "dev", cwd=repository)
    assert "can't be built" in " ".join(text.out.split())


def test_an_app_that_the_base_does_not_have_is_new(tmp_path):
    repository = hello(tmp_path / "r")
    git(repository, "rm", "-rq", "--cached", ".")
    git(repository, "commit", "-qm", "Empty")
    found = differing(repository)
    assert found["baseline"]["kind"] == "none"
    assert ("route", "added", "GET /") in told(found)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--from", "nowhere"), "names no commit here"),
        (("--to", "--upload-pack=x"), "names no commit here"),
        (("--from", "main", "--against", "base"), "Leave one of them out"),
        (("--against", "nothing"), "Choose one of deployed, base"),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(tmp_path, arguments, says):
    repository = hello(tmp_path / "r")
    ran = run_here("diff", "--stage", "dev", *arguments, cwd=repository)
    assert ran.code == 2
    assert says in " ".join((ran.out + ran.err).split())


def test_a_package_comes_with_its_snapshot_which_holds_no_value(tmp_path):
    config = json.loads(CONFIG)
    config["stages"]["dev"]["environment_variables"] = {"PASSWORD": SECRET}
    repository = hello(tmp_path / "r", **{".chalice/config.json": json.dumps(config)})
    folder = repository / "chalice-ci-out/hello/dev"
    raw = {}
    for key in ("", "one key", "another"):
        env = {"CHALICE_CI_SNAPSHOT_KEY": key} if key else {}
        ran = run_here("package", "--stage", "dev", cwd=repository, **env)
        assert ran.code == 0, ran.out + ran.err
        raw[key] = (folder / "snapshot.json").read_bytes()
        jsonschema.validate(json.loads(raw[key]), snapshot_schema())
        assert SECRET.encode() not in raw[key]
        assert b"one key" not in raw[key]
    (variable,) = parse(raw[""]).functions[0].variables
    assert (variable.name, variable.digest, parse(raw[""]).variables_key) == ("PASSWORD", "", "")
    digests = {parse(raw[key]).functions[0].variables[0].digest for key in ("one key", "another")}
    assert len(digests) == 2
    names = [file.path for file in parse(raw[""]).files]
    assert "app.py" in names
    assert parse(raw[""]).size == (folder / "deployment.zip").stat().st_size


def test_a_changed_value_is_told_under_a_key_and_never_shown(tmp_path):
    config = json.loads(CONFIG)
    config["stages"]["dev"]["environment_variables"] = {"PASSWORD": SECRET, "OLD": "1"}
    repository = hello(tmp_path / "r", **{".chalice/config.json": json.dumps(config)})
    config["stages"]["dev"]["environment_variables"] = {"PASSWORD": f"{SECRET}!", "NEW": "1"}
    write(repository, {".chalice/config.json": json.dumps(config)})
    for key, expected in (("k", ["NEW", "OLD", "PASSWORD"]), ("", ["NEW", "OLD"])):
        env = {"CHALICE_CI_SNAPSHOT_KEY": key} if key else {}
        found = differing(repository, **env)
        (item,) = found["items"]
        assert [d["name"].split()[-1] for d in item["details"]] == expected
        assert SECRET not in json.dumps(found)


# -- what is deployed -----------------------------------------------------------------------------

WORKER = APP + "\n\n@app.schedule('rate(1 hour)')\ndef worker(event):\n    pass\n"


def test_a_deploy_records_what_a_later_difference_needs_and_a_loss_is_asked_for(tmp_path, account):
    repository = hello(tmp_path / "r", **{"app.py": WORKER, ".gitignore": "chalice-ci-out\n"})
    before = differing(repository, "--against", "deployed", **account)
    assert before["baseline"]["kind"] == "none"
    ran = run_here("deploy", "--stage", "dev", cwd=repository, **account)
    assert ran.code == 0, ran.out + ran.err
    beside = git(repository, "show", "chalice-state:.chalice/deployed/dev.snapshot.json")
    jsonschema.validate(json.loads(beside), snapshot_schema())
    # Without credentials: nothing but the record is read.
    assert differing(repository, "--against", "deployed")["empty"]

    write(repository, {"app.py": APP})
    commit(repository, "Drop the worker")
    found = differing(repository, "--against", "deployed")
    assert ("function", "removed", "worker") in told(found)
    assert ("trigger", "removed", "schedule worker-event") in told(found)

    planned = run_here("plan", "--stage", "dev", "--format", "json", cwd=repository, **account)
    assert planned.code == 1
    (finding,) = planned.result["findings"]
    assert finding["rule"] == "destructive-change"
    assert finding["what"] == "the function `worker` is deleted."
    assert "allow-delete:dev" in finding["fix"]
    plan = repository / "chalice-ci-out" / "hello-dev.plan"
    for arguments in (("--stage", "dev"), ("--plan", plan)):
        refused = run_here("deploy", *arguments, "--format", "json", cwd=repository, **account)
        assert refused.code == 16, refused.out + refused.err
        assert "`worker` is deleted" in refused.result["failure"]["what"]
        assert "--allow-destructive" in refused.result["failure"]["fix"]
    assert "worker" in git(repository, "show", "chalice-state:.chalice/deployed/dev.json")

    let = run_here("deploy", "--plan", plan, "--allow-destructive", cwd=repository, **account)
    assert let.code == 0, let.out + let.err
    assert "worker" not in git(repository, "show", "chalice-state:.chalice/deployed/dev.json")
    assert differing(repository, "--against", "deployed")["empty"]

    gone = run_here("delete", "--stage", "dev", cwd=repository, **account)
    assert gone.code == 0, gone.out + gone.err
    files = git(repository, "ls-tree", "-r", "--name-only", "chalice-state")
    assert "dev.snapshot.json" not in files


def test_a_label_lets_a_plan_lose_something_and_the_plan_carries_it(tmp_path, account):
    yml = "version: 1\nstages:\n  dev: {deploy-on: {branch: main}, environment: live}\n"
    files = {"app.py": WORKER, "chalice-ci.yml": yml, ".gitignore": "chalice-ci-out\n"}
    repository = hello(tmp_path / "r", **files)
    arguments = ("--stage", "dev", "--format", "json")
    assert run_here("deploy", "--stage", "dev", cwd=repository, **account).code == 0
    git(repository, "checkout", "-qb", "feature")
    write(repository, {"app.py": APP})
    commit(repository, "Drop the worker")
    for number, labels in ((1, []), (2, [{"name": "allow-delete:dev"}])):
        pull = pull_request(repository, labels=labels)
        env = event(repository, tmp_path, "pull_request", action="opened", run=number, pull=pull)
        ran = run_here("plan", *arguments, cwd=repository, **account, **env)
        rules = [finding["rule"] for finding in ran.result["findings"]]
        assert (ran.code, rules) == ((0, []) if labels else (1, ["destructive-change"]))
    plan = repository / "chalice-ci-out" / "hello-dev.plan"
    ran = run_here("deploy", "--plan", plan, cwd=repository, **account, **env)
    assert ran.code == 0, ran.out + ran.err


def test_the_label_of_the_merged_pull_request_lets_the_push_lose_something(tmp_path, account):
    yml = "version: 1\nstages:\n  dev: {deploy-on: {branch: main}}\n"
    files = {"app.py": WORKER, "chalice-ci.yml": yml, ".gitignore": "chalice-ci-out\n"}
    repository = hello(tmp_path / "r", **files)
    (tmp_path / "forge").mkdir()
    forge = LocalForge(tmp_path / "forge")
    pull = forge.create_pull_request(
        head_ref="feature", head_sha="1" * 40, base_sha=git(repository, "rev-parse", "HEAD")
    )

    def push(number, verb="run"):
        env = event(repository, tmp_path, "push", run=number)
        env["CHALICE_CI_LOCAL_FORGE"] = str(tmp_path / "forge")
        return run_here(verb, "--format", "json", cwd=repository, **account, **env)

    ran = push(1)
    assert ran.code == 0, ran.out + ran.err
    write(repository, {"app.py": APP})
    forge.update_pull_request(pull.number, merged=True, merge_sha=commit(repository, "Merge"))
    assert push(2).code == 16
    assert push(2, "plan").code == 1
    forge.update_pull_request(pull.number, labels=("allow-delete:dev",))
    assert push(2, "plan").code == 0
    ran = push(3)
    assert ran.code == 0, ran.out + ran.err
    found = ran.result["difference"]
    assert found["baseline"]["kind"] == "deployed"
    assert ("worker", "destructive") in risks(found)


# -- a pull request -------------------------------------------------------------------------------


def test_a_pull_request_is_checked_against_its_base_and_its_preview_may_lose_anything(
    tmp_path, account
):
    yml = "version: 1\nstages:\n  dev: {deploy-on: {branch: main}}\npreview: {like: dev}\n"
    files = {"app.py": WORKER, "chalice-ci.yml": yml, ".gitignore": "chalice-ci-out\n"}
    repository = hello(tmp_path / "r", **files)
    base = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-qb", "feature")
    for number, source in ((1, WORKER.replace("1 hour", "2 hours")), (2, APP)):
        write(repository, {"app.py": source})
        commit(repository, "Change")
        env = event(
            repository,
            tmp_path,
            "pull_request",
            action="synchronize",
            run=number,
            pull=pull_request(repository),
        )
        ran = run_here("run", "--format", "json", cwd=repository, **account, **env)
        assert ran.code == 0, ran.out + ran.err
        results = {result["stage"]: result for result in ran.report["results"]}
        for stage in ("dev", "pr-1"):
            found = results[stage]["difference"]
            assert (found["baseline"]["kind"], found["baseline"]["commit"]) == ("base", base)
            kind = "changed" if number == 1 else "removed"
            assert ("trigger", kind, "schedule worker-event") in told(found), stage
    # The second run of the preview deleted what the first one had.
    assert "worker" not in git(repository, "show", "chalice-state:.chalice/deployed/pr-1.json")


def test_an_app_that_moved_is_compared_with_itself(tmp_path):
    """Its name is its folder's, where chalice-ci.yml does not say; config.json's is the same."""
    repository = hello(tmp_path / "r")
    (repository / "services/shop").mkdir(parents=True)
    git(repository, "mv", "app.py", ".chalice", "requirements.txt", "services/shop")
    commit(repository, "Move")
    found = differing(repository, "--from", "HEAD~1")
    assert (found["baseline"]["kind"], found["empty"]) == ("commit", True)


def test_a_submodule_of_the_package_is_named_as_what_the_base_lacks(tmp_path):
    repository = hello(tmp_path / "r")
    entry = f"160000,{'1' * 40},chalicelib/shared"
    git(repository, "update-index", "--add", "--cacheinfo", entry)
    git(repository, "commit", "-qm", "Share")
    found = differing(repository)
    assert "submodule chalicelib/shared belongs to the package" in found["baseline"]["problem"]


def test_a_repository_without_a_commit_has_nothing_to_compare_with(tmp_path):
    repository = tmp_path / "r"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch", "main")
    write(repository, {"app.py": APP, ".chalice/config.json": CONFIG})
    found = differing(repository)
    assert found["baseline"]["problem"] == "there is no commit yet."


def test_the_base_is_built_once_for_all_runs(tmp_path):
    repository = hello(tmp_path / "r")
    # A tree that no other test has, and no earlier run of this one.
    write(repository, {"chalicelib/mark.py": f"MARK = {uuid.uuid4().hex!r}\n"})
    commit(repository)
    said = "to compare with"
    first = chalice_ci("diff", cwd=repository)
    again = chalice_ci("diff", cwd=repository)
    assert first.err.count(said) == 2, first.out + first.err  # a stage each
    assert first.err.count("reading the files of") == 1
    assert said not in again.err
    assert again.out.partition("time ")[0] == first.out.partition("time ")[0]
