"""The main job, told and verified step by step on the embedded AWS: `chalice-ci demo`.

Every step runs the real command in a process of its own, in a fresh repository that holds the
sample app, and checks what came of it; what was not so is said, and the exit code is 1.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

import boto3
import cmarkgfm
from cmarkgfm.cmark import Options

from chalice_ci.errors import ExitCode, UsageError
from chalice_ci.forge.local import LocalForge

APP = "services/orders"
OPT_IN = "app.experimental_feature_flags.update(['WEBSOCKETS'])"
STATE_BRANCH = "chalice-state-local"
REPOSITORY = {"id": 1, "full_name": "demo/shop", "default_branch": "main"}
NOTIFICATIONS = """

@app.on_ws_message()
def notify(event):
    return {"heard": event.body}
"""


class NotSo(Exception):
    """A step did not come out as the demo says it does."""


@dataclass(kw_only=True)
class Demo:
    """A repository with the sample app, and the commands that are run on it."""

    root: Path
    env: Mapping[str, str]
    aws: Mapping[str, str]
    forge: LocalForge
    pages: Path
    out: TextIO
    runs: int = 0
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    # -- what a person would type -------------------------------------------------------------

    def chalice_ci(self, *arguments: str, event: str = "", code: int = 0, key: str = "") -> str:
        """Run the command as a user would, show it and its output, and expect an exit code.

        With an `event` ("push", "push:v1.0", "pull_request:opened") as GitHub starts it then, with
        a `key` as a job that has the signing key. The answer is its stdout.
        """
        on = f"    # on {event.replace(':', ' ')}" if event else ""
        signing = "CHALICE_CI_SIGNING_KEY=... " if key else ""
        self.out.write(f"\n$ {signing}chalice-ci {' '.join(arguments)}{on}\n")
        self.out.flush()
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "chalice_ci", *arguments],
            cwd=self.root,
            env={
                **self.env,
                **self._event(event),
                **({"CHALICE_CI_SIGNING_KEY": key} if key else {}),
            },
            stdout=subprocess.PIPE,
            # In the order in which a person sees it.
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.out.write("".join(f"  {line}" for line in ran.stdout.splitlines(keepends=True)))
        self.out.flush()
        self.expect(
            ran.returncode == code, f"`chalice-ci {arguments[0]}` exits {code}", str(ran.returncode)
        )
        return ran.stdout

    def _event(self, event: str) -> dict[str, str]:
        """What the runner tells a step about an event."""
        if not event:
            return {}
        self.runs += 1
        name, _, detail = event.partition(":")
        sha = self.git("rev-parse", "HEAD").strip()
        payload: dict[str, Any] = {"repository": REPOSITORY}
        ref = "refs/heads/main"
        if name == "pull_request":
            payload |= {"action": detail, "pull_request": self._pull_request()}
            ref = "refs/pull/1/merge"
        elif detail:
            ref = f"refs/tags/{detail}"
        file = self.root / ".git" / "event.json"
        file.write_text(json.dumps(payload), encoding="utf-8")
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": name,
            "GITHUB_EVENT_PATH": str(file),
            "GITHUB_REPOSITORY": str(REPOSITORY["full_name"]),
            "GITHUB_REF": ref,
            "GITHUB_SHA": sha,
            "GITHUB_RUN_ID": str(self.runs),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_API_URL": "https://api.github.com",
            "GITHUB_ACTOR": "you",
        }

    # -- the pull request ---------------------------------------------------------------------

    def open_pull_request(self, title: str) -> None:
        """Open pull request 1 for the branch that is checked out."""
        self.forge.create_pull_request(
            head_ref="notify",
            head_sha=self.git("rev-parse", "HEAD").strip(),
            base_sha=self.git("rev-parse", "main").strip(),
            title=title,
        )

    def _pull_request(self) -> dict[str, Any]:
        pull = self.forge.pull_request(1)
        repo = {"id": REPOSITORY["id"], "full_name": REPOSITORY["full_name"]}
        return {
            "number": pull.number,
            "state": "open" if pull.is_open else "closed",
            "merged": pull.merged,
            "labels": [],
            "user": {"login": pull.author, "id": 2},
            "head": {"ref": pull.head_ref, "sha": pull.head_sha, "repo": repo},
            "base": {"ref": pull.base_ref, "sha": pull.base_sha, "repo": repo},
        }

    def comments(self) -> list[str]:
        """All comments of the pull request."""
        return [raw.body for _, raw in self.forge.comments(1)]

    def comment(self) -> str:
        """The comment of ours, without its marker."""
        found = self.forge.sticky_comment(1)
        if found is None:
            raise NotSo("there is no comment")
        return re.sub(r"\A(<!-- chalice-ci .*? -->\n)+", "", found.body)

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        identity = ("-c", "user.name=Demo", "-c", "user.email=demo@example.invalid")
        return subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.root,
            env={**self.env, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def commit(self, message: str) -> None:
        """Commit everything, as the developer of the story."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.out.write(f"\n$ git commit -m {message!r}\n")

    def append(self, file: str, text: str) -> None:
        """Write more into a file of the app."""
        with (self.root / APP / file).open("a", encoding="utf-8") as opened:
            opened.write(text)

    def replace(self, file: str, old: str, new: str) -> None:
        """Edit a file of the app."""
        path = self.root / APP / file
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise NotSo(f"{file} of the sample has no {old!r}")
        path.write_text(text.replace(old, new), encoding="utf-8")

    # -- checking -----------------------------------------------------------------------------

    def expect(self, truth: bool, sentence: str, found: str = "") -> None:
        """Note a verified sentence; NotSo ends the step when it is not true."""
        if truth:
            self.passed.append(sentence)
            self.out.write(f"  ✓ {sentence}\n")
            return
        self.out.write(f"  ✗ {sentence}{f' (found: {found})' if found else ''}\n")
        raise NotSo(sentence)


def run_demo(*, env: Mapping[str, str], cache_dir: Path, pages: Path, out: TextIO) -> ExitCode:
    """Tell the story; FINDINGS when any part of it was not so.

    Raises UsageError when git or the extra `local` is missing.
    """
    from chalice_ci.local import LocalCloud
    from chalice_ci.local.aws import require_extra

    require_extra()
    if shutil.which("git", path=env.get("PATH")) is None:
        raise UsageError("the demo needs git.", where="demo", fix="Install git and run it again.")
    started = time.monotonic()
    with _repository() as root:
        cloud = LocalCloud.attach_or_start(root / ".git" / "chalice-ci-local")
        try:
            demo = Demo(
                root=root,
                env=_environment(env, cache_dir, root / ".git" / "forge"),
                aws=cloud.environ,
                forge=LocalForge(root / ".git" / "forge"),
                pages=pages,
                out=out,
            )
            steps = (
                ("A pull request uses an experimental feature: refused, with the fix", _refused),
                ("The fix is pushed: the preview is up, and its URL answers", _preview),
                ("Merged: dev is deployed, and the state is recorded in git", _merged),
                ("The pull request is closed: the preview is gone", _taken_down),
                ("A change is planned, and exactly that plan is applied", _changed),
                ("A tag: prod's plan waits, is approved, and gets the same package", _gated),
                ("Both stages are deleted and nothing is left", _deleted),
            )
            for number, (title, step) in enumerate(steps, 1):
                out.write(f"\n━━ {number}. {title} ━━\n")
                try:
                    step(demo)
                except (NotSo, OSError, ValueError, subprocess.SubprocessError) as problem:
                    demo.failed.append(f"{title}: {problem}")
                    break
        finally:
            cloud.stop()
    return _summary(demo, time.monotonic() - started)


def _environment(env: Mapping[str, str], cache_dir: Path, forge: Path) -> dict[str, str]:
    """The caller's environment without its AWS account: a demo must not touch one."""
    foreign = ("AWS_", "GITHUB_", "INPUT_", "CHALICE_CI_")
    kept = {key: value for key, value in env.items() if not key.startswith(foreign) and key != "CI"}
    if "AWS_CA_BUNDLE" in env:
        kept["AWS_CA_BUNDLE"] = env["AWS_CA_BUNDLE"]
    return kept | {
        "CHALICE_CI_LOCAL": "true",
        "CHALICE_CI_CACHE_DIR": str(cache_dir),
        "CHALICE_CI_LOCAL_FORGE": str(forge),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def _repository() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chalice-ci-demo-") as folder:
        root = Path(folder) / "shop"
        app = root / APP
        source = resources.files("chalice_ci") / "sample"
        with resources.as_file(source) as sample:
            shutil.copytree(sample / "orders", app, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(sample / "chalice-ci.yml", root / "chalice-ci.yml")
        (root / ".gitignore").write_text("chalice-ci-out/\n", encoding="utf-8")
        subprocess.run(
            ["git", "init", "--quiet", "--initial-branch", "main", str(root)], check=True
        )
        (root / ".git" / "forge").mkdir()
        demo_commit = ("-c", "user.name=Demo", "-c", "user.email=demo@example.invalid", "commit")
        for arguments in (("add", "--all"), (*demo_commit, "--quiet", "--message", "A small shop")):
            subprocess.run(["git", "-C", str(root), *arguments], check=True)
        yield root


# -- the steps ------------------------------------------------------------------------------------


def _refused(demo: Demo) -> None:
    demo.git("switch", "--quiet", "--create", "notify")
    demo.append("app.py", NOTIFICATIONS)
    demo.commit("Notify over a WebSocket")
    demo.open_pull_request("Notify over a WebSocket")
    said = demo.chalice_ci("run", event="pull_request:opened", code=int(ExitCode.FINDINGS))
    line = _line_of(demo, "@app.on_ws_message()")
    demo.expect(f"{APP}/app.py:{line}" in said, "the finding names the file and the line")
    comment = demo.comment()
    demo.expect(OPT_IN in comment, "the comment shows the exact line to add")
    demo.expect("pr-1" in comment, "the comment has a row for the preview")
    demo.expect(not _functions(demo), "nothing was deployed")


def _preview(demo: Demo) -> None:
    demo.replace(
        "app.py",
        'app = Chalice(app_name="orders")\n',
        f'app = Chalice(app_name="orders")\n{OPT_IN}\n',
    )
    demo.commit("Opt in to WebSockets")
    demo.forge.update_pull_request(1, head_sha=demo.git("rev-parse", "HEAD").strip())
    demo.chalice_ci("run", event="pull_request:synchronize")
    url = _rest_url(demo, "pr-1")
    demo.expect(url in demo.comment(), "the same comment has the preview's URL now")
    demo.expect(len(demo.comments()) == 1, "there is one comment, not two")
    answer = _get(url)
    demo.expect(
        answer == {"service": "orders", "items": ["coffee", "tea"]},
        "GET / of the preview answers with the items",
        json.dumps(answer),
    )
    (deployment,) = demo.forge.deployments("pr-1")
    demo.expect(
        (deployment.state.value, deployment.url) == ("success", url),
        "the forge shows the preview as deployed there",
        f"{deployment.state.value} {deployment.url}",
    )
    demo.out.write(f"\nThe comment, as people see it:\n\n{demo.comment()}\n\n")
    demo.pages.mkdir(parents=True, exist_ok=True)
    page = demo.pages / "comment.html"
    page.write_text(_html(demo.comment()), encoding="utf-8")
    demo.out.write(f"As a page: {page}\n")


def _merged(demo: Demo) -> None:
    demo.git("switch", "--quiet", "main")
    demo.git("merge", "--quiet", "--no-ff", "--message", "Merge pull request #1", "notify")
    demo.out.write("\n$ git merge notify\n")
    demo.chalice_ci("run", event="push")
    total = _get(f"{_rest_url(demo, 'dev')}orders/coffee", {"quantity": 3})
    demo.expect(
        total == {"item": "coffee", "quantity": 3, "total": 1350},
        "POST /orders/coffee of dev answers with the total",
        json.dumps(total),
    )
    file = f"{APP}/.chalice/deployed/dev.json"
    shown = demo.git("log", "-1", "--stat=120", "--format=%h %s", STATE_BRANCH, "--", file)
    demo.out.write(f"\n$ git log -1 --stat {STATE_BRANCH} -- {file}\n{shown}")
    demo.expect(file in shown, f"a commit records the state in {file}")
    state = json.loads(demo.git("show", f"{STATE_BRANCH}:{file}"))
    kinds = {resource["resource_type"] for resource in state["resources"]}
    wanted = {"iam_role", "lambda_function", "rest_api", "websocket_api", "cloudwatch_event"}
    demo.expect(kinds == wanted, "it names every resource", ", ".join(sorted(kinds)))
    demo.expect(demo.git("status", "--porcelain") == "", "the work tree is untouched")


def _taken_down(demo: Demo) -> None:
    head = demo.git("rev-parse", "notify").strip()
    demo.forge.update_pull_request(1, head_sha=head, is_open=False, merged=True)
    demo.chalice_ci("run", event="pull_request:closed")
    left = [name for name in _functions(demo) if name.startswith("orders-pr-1")]
    demo.expect(not left, "no function of the preview is left", ", ".join(left))
    demo.expect(not demo.forge.deployments("pr-1"), "the forge shows no preview any more")
    demo.expect("orders-dev" in _functions(demo), "dev still stands")


def _changed(demo: Demo) -> None:
    demo.replace("chalicelib/catalogue.py", '"tea": 390}', '"tea": 390, "cocoa": 420}')
    demo.commit("Sell cocoa")
    demo.chalice_ci("plan", "--stage", "dev")
    plan = demo.root / "chalice-ci-out" / "orders-dev.plan"
    demo.expect(plan.is_file(), "the plan is a file")
    before = _get(_rest_url(demo, "dev"))
    demo.expect(before["items"] == ["coffee", "tea"], "planning changed nothing")
    demo.chalice_ci("deploy", "--plan", str(plan.relative_to(demo.root)))
    after = _get(_rest_url(demo, "dev"))
    demo.expect(
        after["items"] == ["cocoa", "coffee", "tea"], "the URL answers with the change", str(after)
    )


def _gated(demo: Demo) -> None:
    demo.git("tag", "v1.0")
    demo.out.write("\n$ git tag v1.0\n")
    # The plan is made in CI and applied at this desk: who has the key made it.
    key = secrets.token_urlsafe(32)
    demo.chalice_ci("run", event="push:v1.0", key=key)
    waiting = demo.forge.pending_approvals("production")
    demo.expect(len(waiting) == 1, "a plan for prod waits for an approval", str(len(waiting)))
    demo.expect(
        not any(name.startswith("orders-prod") for name in _functions(demo)), "prod is untouched"
    )
    plan = "chalice-ci-out/orders-prod.plan"
    demo.chalice_ci("deploy", "--plan", plan, code=int(ExitCode.PLAN_REFUSED), key=key)
    demo.forge.approve("production", waiting[0].subject, by="the release manager")
    demo.out.write(f"\nThe release manager approves {waiting[0].subject[:12]} for production.\n")
    demo.chalice_ci("deploy", "--plan", plan, key=key)
    dev, prod = (_code_of(demo, f"orders-{stage}") for stage in ("dev", "prod"))
    demo.expect(dev == prod, "dev and prod run the same bytes", f"{dev} and {prod}")
    demo.out.write(f"  sha256 of the code, base64: {prod}\n")
    answer = _get(_rest_url(demo, "prod"))
    demo.expect("cocoa" in answer["items"], "prod's URL answers")


def _deleted(demo: Demo) -> None:
    for stage in ("dev", "prod"):
        demo.chalice_ci("delete", "--stage", stage)
    left = _resources(demo)
    demo.expect(not left, "nothing is left in the account", ", ".join(left))


# -- looking --------------------------------------------------------------------------------------


def _line_of(demo: Demo, text: str) -> int:
    lines = (demo.root / APP / "app.py").read_text(encoding="utf-8").splitlines()
    return lines.index(text) + 1


def _rest_url(demo: Demo, stage: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "chalice_ci", "url", "--stage", stage, "--format", "json"],
        cwd=demo.root,
        env=dict(demo.env),
        capture_output=True,
        text=True,
        check=True,
    )
    for result in json.loads(ran.stdout)["results"]:
        for url in result["urls"]:
            if url["kind"] == "rest":
                return str(url["address"])
    raise NotSo(f"{stage} has no URL")


def _get(url: str, body: Mapping[str, object] | None = None) -> Any:
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    # No proxy of the environment stands between us and loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)


def _functions(demo: Demo) -> list[str]:
    found = _client(demo, "lambda").list_functions()["Functions"]
    return sorted(function["FunctionName"] for function in found)


def _client(demo: Demo, service: str) -> Any:
    return boto3.session.Session(
        aws_access_key_id=demo.aws["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=demo.aws["AWS_SECRET_ACCESS_KEY"],
        region_name=demo.aws["AWS_DEFAULT_REGION"],
    ).client(service, endpoint_url=demo.aws["AWS_ENDPOINT_URL"])


def _code_of(demo: Demo, function: str) -> str:
    said = _client(demo, "lambda").get_function_configuration(FunctionName=function)
    return str(said["CodeSha256"])


def _resources(demo: Demo) -> list[str]:
    """What the sample app's kinds of resources left in the account."""
    functions = _client(demo, "lambda").list_functions()["Functions"]
    roles = _client(demo, "iam").list_roles()["Roles"]
    rest = _client(demo, "apigateway").get_rest_apis()["items"]
    websockets = _client(demo, "apigatewayv2").get_apis()["Items"]
    rules = _client(demo, "events").list_rules()["Rules"]
    return [
        *(f"function {found['FunctionName']}" for found in functions),
        *(f"role {found['RoleName']}" for found in roles),
        *(f"REST API {found['id']}" for found in rest),
        *(f"WebSocket API {found['ApiId']}" for found in websockets),
        *(f"rule {found['Name']}" for found in rules),
    ]


def _html(comment: str) -> str:
    """The comment rendered by GitHub's own rules, with a little of its looks."""
    body = cmarkgfm.github_flavored_markdown_to_html(comment, options=Options.CMARK_OPT_UNSAFE)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The comment of chalice-ci</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 14px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto }}
table {{ border-collapse: collapse }}
td, th {{ border: 1px solid #8884; padding: .4rem .8rem; text-align: left }}
code, pre {{ font: 12px/1.5 ui-monospace, monospace; background: #8882; border-radius: 4px }}
code {{ padding: .1rem .3rem }} pre {{ padding: .8rem; overflow: auto }}
pre code {{ padding: 0; background: none }}
blockquote {{ margin: 0; padding: 0 1rem; border-left: 4px solid #d29922 }}
</style></head><body>
{body}
</body></html>
"""


def _summary(demo: Demo, seconds: float) -> ExitCode:
    demo.out.write("\n━━ Summary ━━\n")
    demo.out.write(f"{len(demo.passed)} things verified in {seconds:.0f} s.\n")
    for problem in demo.failed:
        demo.out.write(f"✗ {problem}\n")
    if demo.failed:
        return ExitCode.FINDINGS
    demo.out.write("✓ Everything was as told.\n")
    return ExitCode.OK
