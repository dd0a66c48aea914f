"""A pull request of a repository with several apps: cut into jobs, run as jobs, folded again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chalice_ci.forge.local import LocalForge
from chalice_ci.local import EmbeddedAWS
from support.commandline import APP, CONFIG, commit, git, write
from support.inprocess import run_here
from support.steps import event, outputs, pull_request

YML = """version: 1
apps:
  orders: {path: services/orders, paths: [libs/common/**]}
  users: {path: services/users, paths: ["!**/*.md"]}
  bills: {path: services/bills}
stages: {dev: {deploy-on: {branch: main}}}
"""
APPS = ("bills", "orders", "users")


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("begun") / "r"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    write(root, {"chalice-ci.yml": YML, "libs/common/shared.py": "", "README.md": "Shop\n"})
    for name in APPS:
        write(
            root / "services" / name,
            {
                "app.py": APP.replace("hello", name),
                ".chalice/config.json": CONFIG.replace("hello", name),
                "requirements.txt": "",
            },
        )
    commit(root, "Begin")
    git(root, "switch", "--quiet", "--create", "feature")
    return root


@pytest.fixture
def repository(begun, tmp_path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "r"))


def changed(repository, *names):
    for name in names:
        with (repository / name).open("a") as file:
            file.write("# changed\n")
    commit(repository)


def opened(repository, tmp_path, *, run=1):
    return event(
        repository,
        tmp_path,
        "pull_request",
        action="opened",
        run=run,
        pull=pull_request(repository),
    )


def printed(repository, env, *arguments):
    ran = run_here("matrix", *arguments, cwd=repository, **env)
    assert ran.code == 0, ran.err
    return [entry["app"] for entry in json.loads(ran.out)["include"]], ran.err


@pytest.mark.parametrize(
    ("files", "apps"),
    [
        (("services/users/app.py",), ["users"]),
        (("libs/common/shared.py",), ["orders"]),
        (("services/bills/app.py", "libs/common/shared.py"), ["orders", "bills"]),
        (("services/users/README.md",), []),
        (("README.md",), []),
        (("chalice-ci.yml",), ["orders", "users", "bills"]),
    ],
)
def test_a_pull_request_is_for_the_apps_that_it_touches(repository, tmp_path, files, apps):
    changed(repository, *files)
    env = opened(repository, tmp_path)
    found, log = printed(repository, env)
    assert found == apps
    left_out = [name for name in ("orders", "users", "bills") if name not in apps]
    assert all(name in log for name in left_out)
    told = outputs(env)
    assert (json.loads(told["matrix"])["include"] != []) == bool(apps)
    assert told["matrix-size"] == str(len(apps))
    everything, _ = printed(repository, env, "--no-only-affected")
    assert everything == ["orders", "users", "bills"]


def test_without_the_base_every_app_is_looked_at_and_that_is_said(repository, tmp_path):
    changed(repository, "services/users/app.py")
    env = opened(repository, tmp_path)
    payload = json.loads(Path(env["GITHUB_EVENT_PATH"]).read_text())
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", "--branch=feature", repository.as_uri(), shallow)
    git(shallow, "remote", "remove", "origin")
    payload["pull_request"]["base"]["sha"] = "1" * 40
    Path(env["GITHUB_EVENT_PATH"]).write_text(json.dumps(payload))
    # Its own policy can't be read either, so the event is one without: what is compared is asked.
    ran = run_here("matrix", cwd=shallow, **env)
    assert ran.code == 2
    assert "fetch-depth: 0" in ran.err


def test_run_leaves_the_others_alone_and_says_so(repository, tmp_path):
    changed(repository, "services/users/app.py")
    env = opened(repository, tmp_path)
    ran = run_here("run", "--format", "json", cwd=repository, **env)
    assert ran.code == 0, ran.err
    assert [(r["app"], r["stage"]) for r in ran.report["results"]] == [("users", "dev")]
    (note,) = ran.report["notes"]
    assert note.startswith("Left alone")
    assert note.endswith("bills, orders.")


def test_the_jobs_of_a_matrix_report_to_one_comment(repository, tmp_path):
    changed(repository, "services/users/app.py", "services/bills/app.py", "libs/common/shared.py")
    write(repository, {"services/bills/app.py": "import nothing_of_this_name\n"})
    commit(repository)
    forge = LocalForge(tmp_path / "forge")
    (tmp_path / "forge").mkdir(exist_ok=True)
    forge.create_pull_request(
        head_ref="feature",
        head_sha=git(repository, "rev-parse", "HEAD"),
        base_sha=git(repository, "rev-parse", "main"),
    )
    env = opened(repository, tmp_path)
    ran = run_here("matrix", cwd=repository, **env)
    entries = json.loads(ran.out)["include"]
    assert [entry["app"] for entry in entries] == ["orders", "users", "bills"]
    for entry in entries[1:]:
        out = tmp_path / "parts" / f"part-{entry['app']}"
        done = run_here(
            *("run", "--app", entry["app"], "--stage", entry["stage"]),
            *("--no-comment", "--out", out),
            cwd=repository,
            **env,
        )
        assert done.code == (1 if entry["app"] == "bills" else 0), done.out + done.err

    arguments = ("--local-forge", tmp_path / "forge", "--reports", tmp_path / "parts")
    ran = run_here(
        *("report", *arguments, "--matrix", ran.out), "--format=json", cwd=repository, **env
    )
    assert ran.code == 1
    verdicts = {r["app"]: r["verdict"] for r in ran.report["results"]}
    assert verdicts == {"orders": "failed", "users": "ok", "bills": "findings"}
    ((_, comment),) = forge.comments(1)
    for text in ("users", "bills", "the job that had orders/dev left no report", "nothing"):
        assert text in comment.body

    # The lost job is run again: the comment is rewritten in place.
    out = tmp_path / "parts" / "part-orders"
    run_here(
        "run", "--app=orders", "--stage=dev", "--no-comment", "--out", out, cwd=repository, **env
    )
    ran = run_here("report", *arguments, cwd=repository, **env)
    assert ran.code == 1
    ((_, comment),) = forge.comments(1)
    assert "left no report" not in comment.body

    # Nothing is left to do: no new comment where there is none, the old one does not stand.
    empty = tmp_path / "empty"
    ran = run_here(
        *("report", "--reports", empty, "--matrix", '{"include": []}'),
        *("--local-forge", tmp_path / "forge"),
        cwd=repository,
        **env,
    )
    assert ran.code == 0
    ((_, comment),) = forge.comments(1)
    assert "No app is touched" in comment.body

    # The pull request goes back on all of it: what stands there is not true any more.
    git(repository, "reset", "--quiet", "--hard", "main")
    write(repository, {"README.md": "Another\n"})
    commit(repository)
    env = opened(repository, tmp_path, run=2)
    ran = run_here("run", "--local-forge", tmp_path / "forge", cwd=repository, **env)
    assert ran.code == 0
    ((_, comment),) = forge.comments(1)
    assert "nothing to do" in comment.body
    assert "Left alone" in comment.body
    assert "nothing\\_of" not in comment.body


def test_a_push_deploys_what_changed_since_it_was_deployed(repository, tmp_path):
    git(repository, "switch", "--quiet", "main")
    with EmbeddedAWS.start() as aws:
        account = {**aws.environ, "CHALICE_CI_GATEWAY_URL": aws.gateway_url}

        def push(run, *arguments):
            env = event(repository, tmp_path, "push", run=run)
            ran = run_here(
                *("run", "--format", "json", *arguments), cwd=repository, **(env | account)
            )
            results = ran.report["results"] if ran.out.startswith("{") else []
            return ran.code, [r["app"] for r in results], ran.report["notes"]

        code, apps, notes = push(1)
        assert (code, sorted(apps), notes) == (0, ["bills", "orders", "users"], [])

        # A broken commit deploys nothing of its app.
        broken = {"services/bills/app.py": "import nothing_of_this_name\n"}
        good = (repository / "services/bills/app.py").read_text()
        write(repository, broken)
        changed(repository, "services/users/app.py")
        code, apps, notes = push(2)
        assert (code, sorted(apps)) == (1, ["bills", "users"])
        assert notes[0].startswith("Left alone")
        assert notes[0].endswith("orders/dev.")

        # The next one touches another app; the broken one is still to be deployed.
        write(repository, {"services/bills/app.py": good + "# mended\n"})
        commit(repository)
        changed(repository, "services/orders/app.py")
        code, apps, notes = push(3)
        assert (code, sorted(apps)) == (0, ["bills", "orders"])

        # Nothing changed: nothing is done, unless it is asked for.
        changed(repository, "README.md")
        code, apps, notes = push(4)
        assert (code, apps, len(notes)) == (0, [], 1)
        code, apps, notes = push(5, "--no-only-affected", "--app", "users")
        assert (code, apps, notes) == (0, ["users"], [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no report.json here"),
        ("{}", "has no `version`"),
        ("nonsense", "is not JSON"),
        ('{"version": 1}', "has no `tool`"),
    ],
)
def test_what_is_no_report_is_refused(repository, tmp_path, text, told):
    if text is not None:
        write(tmp_path / "parts", {"a/report.json": text})
    ran = run_here("report", "--reports", tmp_path / "parts", cwd=repository)
    assert ran.code == 2
    assert told in ran.err


def test_a_link_in_an_artifact_is_not_followed(repository, tmp_path):
    write(tmp_path, {"secret": "a secret", "parts/x": ""})
    (tmp_path / "parts/report.json").symlink_to(tmp_path / "secret")
    ran = run_here("report", "--reports", tmp_path / "parts", cwd=repository)
    assert ran.code == 2
    assert "there is no report.json here" in ran.err


def test_a_matrix_that_nobody_printed_is_refused(repository, tmp_path):
    ran = run_here(
        *("report", "--reports", tmp_path, "--matrix", '{"include": [{"app": 1}]}'), cwd=repository
    )
    assert ran.code == 2
    assert "this is not what `matrix` prints" in ran.err
