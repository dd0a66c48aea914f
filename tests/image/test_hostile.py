"""Hostile surroundings and a hostile app, in the container, beside everything that a job has."""

from __future__ import annotations

import json

import pytest

from image.runner import ID_TOKEN, RUNTIME_TOKEN, Job
from support.commandline import APP, hello, write

GITHUB_TOKEN = "ghs_canarytoken0123456789012345678901"
AWS_SECRET = "canary-aws-secret-0a1b2c3d"
SECRETS = (GITHUB_TOKEN, AWS_SECRET, RUNTIME_TOKEN, ID_TOKEN)
MARK = "/github/workspace/ran"

HOSTILE = """
import glob, json, os, signal, socket, subprocess

got = []


def attempt(name, what):
    try:
        found = what()
    except BaseException:
        return
    if found:
        got.append(name)


def read(path):
    with open(path, "rb") as file:
        return file.read(64)


def tree(top):
    return [os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names]


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return True


attempt("its own file", lambda: read("app.py"))
for pid in set(range(1, 100)) - {os.getpid()}:
    attempt(f"environ of {pid}", lambda: read(f"/proc/{pid}/environ"))
    attempt(f"memory of {pid}", lambda: open(f"/proc/{pid}/mem", "rb"))
    attempt(f"files of {pid}", lambda: os.listdir(f"/proc/{pid}/root/github"))
attempt("list processes", lambda: os.listdir("/proc"))
for path in ("/var/run/docker.sock", "/run/docker.sock"):
    attempt(f"engine at {path}", lambda: connect(path))
attempt("network", lambda: socket.create_connection(("127.0.0.1", 22), 1))
for top in ("/github/runner_temp", "/github/file_commands", "/github/home", "/github/workflow",
            "/github/workspace", "/var/cache/chalice-ci", "/root"):
    attempt(f"list {top}", lambda: os.listdir(top))
    for path in tree(top):
        attempt(f"read {path}", lambda: read(path))
for path in ("/github/workspace/.git/config", "/github/runner_temp/credentials",
             "/github/workflow/event.json", "/github/home/.netrc", "/etc/shadow"):
    attempt(f"read {path}", lambda: read(path))
for path in ("/github/workspace/ran", "/github/home/ran", "/github/file_commands/ran",
             "/github/runner_temp/ran", "/tmp/ran", "/opt/chalice-ci/ran", "/entrypoint.sh"):
    attempt(f"write {path}", lambda: open(path, "a"))
attempt("signal the first process", lambda: os.kill(1, signal.SIGTERM) is None)
attempt("become root", lambda: os.setuid(0) is None)
attempt("unshare", lambda: subprocess.call(["unshare", "-Ur", "true"], stderr=-3) == 0)
wanted = "TOKEN SECRET INPUT_ GITHUB_ ACTIONS_ RUNNER_".split()
for name in os.environ:
    attempt(f"variable {name}", lambda: any(part in name for part in wanted))

print("::set-env name=A::b")
print("  ::error::forged")
print("x ##[set-output name=a]b")
print("\\r::add-mask::true")
os.spawnl(os.P_NOWAIT, "/bin/sh", "sh", "-c", "setsid sleep 300 &")
raise RuntimeError("got=" + json.dumps(got))
"""


def leaving_a_mark(name):
    return f"open({MARK!r}, 'a').write({name!r})\n"


@pytest.mark.parametrize("user", [0, 1234], ids=["root", "a user"])
def test_a_hostile_app_gets_nothing_and_says_nothing_to_the_runner(
    docker, tmp_path, images, warm, user
):
    """As root with Docker's socket mounted; and as a user who owns all that the app looks for."""
    job = Job(docker, tmp_path / "work", owner=user or 1001)
    hello(job.workspace, **{"app.py": HOSTILE + APP})
    with (job.workspace / ".git" / "config").open("a", encoding="utf-8") as config:
        config.write(f'[http "https://github.invalid/"]\n\textraheader = basic {GITHUB_TOKEN}\n')
    job.give(job.workspace)
    write(job.temp, {"credentials": GITHUB_TOKEN, "_github_home/.netrc": GITHUB_TOKEN})
    ended = job.run(
        images.action,
        inputs={"command": "check", "stage": "dev", "github-token": GITHUB_TOKEN},
        payload={"secret": GITHUB_TOKEN},
        env={
            "GITHUB_TOKEN": GITHUB_TOKEN,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
        },
        options=("--user", f"{user}:{user}") if user else warm,
    )
    assert ended.code == 1, ended.said
    written = (job.workspace / "chalice-ci-out" / "report.json").read_text(encoding="utf-8")
    (result,) = json.loads(written)["results"]
    assert result["isolation"]["level"] == ("partial" if user else "full")
    told = " ".join(finding["what"] for finding in result["findings"])
    assert 'got=["its own file"]' in told, result["findings"]
    for secret in SECRETS:
        assert secret not in ended.said + ended.summary + written + str(ended.outputs)
    lines = [line.strip() for line in ended.said.replace("\r", "\n").splitlines()]
    commands = [line for line in lines if "##[" in line or line.startswith("::")]
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in commands)
    assert not any("forged" in line or "set-env" in line for line in commands)
    assert (ended.environment, ended.path) == ("", "")


def test_nothing_of_the_jobs_environment_gets_to_run(job, images, warm):
    """What a job's variables make bash, Python, git and uv run elsewhere."""
    evil = {
        "evil/sitecustomize.py": leaving_a_mark("sitecustomize"),
        "evil/usercustomize.py": leaving_a_mark("usercustomize"),
        "evil/json.py": leaving_a_mark("json"),
        "evil/chalice_ci/__init__.py": leaving_a_mark("chalice_ci"),
        "evil/startup.sh": f"echo bash >> {MARK}\n",
        "evil/hook": f"#!/bin/sh\necho git >> {MARK}\n",
        "evil/uv.toml": '[[index]]\nurl = "http://127.0.0.1:9/simple"\ndefault = true\n',
    }
    hello(job.workspace, **evil)
    (job.workspace / "evil" / "hook").chmod(0o755)
    job.give(job.workspace)
    folder = "/github/workspace/evil"
    ended = job.run(
        images.action,
        inputs={"command": "check", "stage": "dev"},
        env={
            "BASH_ENV": f"{folder}/startup.sh",
            "ENV": f"{folder}/startup.sh",
            "BASH_FUNC_exec%%": f"() {{ echo function >> {MARK}; }}",
            "PYTHONPATH": folder,
            "PYTHONSTARTUP": f"{folder}/json.py",
            "PYTHONHOME": folder,
            "PYTHONINSPECT": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.fsmonitor",
            "GIT_CONFIG_VALUE_0": f"{folder}/hook",
            "GIT_SSH_COMMAND": f"{folder}/hook",
            "GIT_EXTERNAL_DIFF": f"{folder}/hook",
            "UV_CONFIG_FILE": f"{folder}/uv.toml",
        },
        options=warm,
    )
    assert not (job.workspace / "ran").exists(), (job.workspace / "ran").read_text()
    assert ended.code == 0, ended.said


def test_nothing_in_the_home_that_steps_share_gets_to_run(small, images, warm):
    customize = "_github_home/.local/lib/python3.13/site-packages"
    write(
        small.temp,
        {
            f"{customize}/usercustomize.py": leaving_a_mark("usercustomize"),
            f"{customize}/sitecustomize.py": leaving_a_mark("sitecustomize"),
            f"{customize}/evil.pth": f"import os; {leaving_a_mark('pth')}",
            "_github_home/.gitconfig": f'[core]\n\tfsmonitor = "touch {MARK}"\n',
            "_github_home/.config/git/config": f'[core]\n\tsshCommand = "touch {MARK}"\n',
            "_github_home/.config/uv/uv.toml": 'index-url = "http://127.0.0.1:9/simple"\n',
            "_github_home/.bashrc": f"touch {MARK}\n",
            "_github_home/.aws/config": f"[default]\ncredential_process = touch {MARK}\n",
        },
    )
    ended = small.run(images.action, inputs={"command": "check", "stage": "dev"}, options=warm)
    assert not (small.workspace / "ran").exists(), (small.workspace / "ran").read_text()
    assert ended.code == 0, ended.said


def test_nothing_in_the_repository_runs_outside_of_the_sandbox(job, images, warm):
    """The working folder is the repository: modules beside app.py are the app's, not ours."""
    names = ("json", "click", "yaml", "chalice_ci", "sitecustomize", "botocore")
    hello(
        job.workspace,
        **{f"{name}.py": leaving_a_mark(name) for name in names},
        **{
            "pyproject.toml": '[[tool.uv.index]]\nurl = "http://127.0.0.1:9"\ndefault = true\n',
            "uv.toml": 'index-url = "http://127.0.0.1:9/simple"\n',
            ".python-version": "3.13\n",
        },
    )
    hooks = job.workspace / ".git" / "hooks"
    for hook in ("reference-transaction", "post-index-change", "pre-commit"):
        hooks.mkdir(exist_ok=True)
        (hooks / hook).write_text(f"#!/bin/sh\necho {hook} >> {MARK}\n", encoding="utf-8")
        (hooks / hook).chmod(0o755)
    with (job.workspace / ".git" / "config").open("a", encoding="utf-8") as config:
        config.write(f'[core]\n\tfsmonitor = "touch {MARK}"\n\tpager = "touch {MARK}"\n')
    job.give(job.workspace)
    ended = job.run(images.action, inputs={"command": "check", "stage": "dev"}, options=warm)
    assert not (job.workspace / "ran").exists(), (job.workspace / "ran").read_text()
    # Loading such an app fails, because the modules are the app's there and may not write.
    assert ended.code in (0, 1), ended.said
