"""The real command in a process of its own, in repositories that look like a user's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

APPS = Path(__file__).parents[1] / "apps"
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "src" / "chalice_ci" / "sample"

_KEPT = ("PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "LANG", "PYENV_ROOT", "PIP_CERT", "CACHE")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def report(self):
        """The report, of a command that was run with --format json."""
        return json.loads(self.out)

    @property
    def result(self):
        """The only result of the report."""
        (result,) = self.report["results"]
        return result


def environ(**more):
    """An environment without credentials, CI variables and settings of other tools."""
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        **{k: v for k, v in os.environ.items() if k.startswith(("UV_", "PIP_"))},
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def command(*arguments):
    """The command line of `chalice-ci`."""
    return [sys.executable, "-P", "-m", "chalice_ci", *map(str, arguments)]


def chalice_ci(*arguments, cwd, seconds=180, **env):
    """Run `chalice-ci` and wait for it."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environ(**env),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "app| " not in line]
    assert not any("Traceback" in line for line in ours), done.stdout + done.stderr
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def git(repository, *arguments):
    """Run git as a developer would; its output."""
    return subprocess.run(
        ["git", "-c", "user.name=Dev", "-c", "user.email=dev@example.invalid", *arguments],
        cwd=repository,
        env=environ(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.strip()


def commit(repository, message="Change"):
    """Commit everything; the commit."""
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", message)
    return git(repository, "rev-parse", "HEAD")


def write(root, files):
    """Write text files below a folder."""
    for name, text in files.items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


APP = """from chalice import Chalice

app = Chalice(app_name="hello")


@app.route("/")
def index():
    return {"hello": "world"}
"""

CONFIG = '{"version": "2.0", "app_name": "hello", "stages": {"dev": {}, "prod": {}}}\n'


def hello(root, **files):
    """A repository with a single small app at its root, committed."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet", "--initial-branch", "main")
    write(root, {"app.py": APP, ".chalice/config.json": CONFIG, "requirements.txt": "", **files})
    commit(root, "Begin")
    return root
