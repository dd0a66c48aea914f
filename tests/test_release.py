"""A release, tried as far as it goes without the registries that it publishes to.

The commands that decide run for real, and so does the last step against a repository of its own;
`docker`, `cosign` and `gh` are recorders there. Building for arm64, signing and publishing can only
be shown by a release.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalice_ci import __version__
from chalice_ci.action import action_text
from support.commandline import environ, git

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".github/release.py"
WORKFLOW = ROOT / ".github/workflows/release.yml"
DIGEST, OTHER = (f"sha256:{sign * 32}" for sign in ("ab", "cd"))
RECORDER = """#!/bin/sh
echo "$(basename "$0") $*" >> "$RECORDED"
case "$*" in
  *"imagetools inspect"*--format*) echo '%s' ;;
  *"imagetools inspect"*) exit "${EXISTS:-1}" ;;
esac
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What a release needs of this project, with a section for its version."""
    root = tmp_path / "r"
    (root / ".github").mkdir(parents=True)
    (root / "rehearsal").mkdir()
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (root / ".venv/bin/python").chmod(0o755)
    (root / ".gitignore").write_text(".venv\n")
    for name in ("setup.py", ".github/release.py", "action.yml", "rehearsal/action.yml"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    text = changes.replace("## Unreleased", f"## Unreleased\n\n## {__version__} - 2026-01-02")
    (root / "CHANGELOG.md").write_text(text, "utf-8")
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Begin")
    git(root, "push", "--quiet", tmp_path / "remote.git", "main")
    return root


def release(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=root,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_version_that_is_ready_is_let_through(repository: Path) -> None:
    done = release(repository, "check", __version__)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "version", ["1.2", "v1.2.3", "1.2.3-rc1", "01.2.3", "1.2.3;ls", "", "9.9.9"]
)
def test_what_is_no_version_or_not_the_codes_is_refused(repository: Path, version: str) -> None:
    done = release(repository, "check", version)
    assert done.returncode == 1
    assert done.stderr.startswith("release: ")
    assert "Traceback" not in done.stderr


def test_a_version_is_never_made_twice(repository: Path) -> None:
    git(repository, "tag", f"v{__version__}")
    assert "never made twice" in release(repository, "check", __version__).stderr


def test_a_version_without_a_section_in_the_changelog_is_refused(repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## {__version__}\n\n## 0.0.1\n\n- x\n"
    )
    assert "has no section" in release(repository, "check", __version__).stderr
    assert release(repository, "notes", "0.0.1").stdout == "- x\n"


def test_the_action_of_a_release_names_the_image_and_differs_in_nothing_else(
    repository: Path,
) -> None:
    assert release(repository, "action", "1.2.3", DIGEST, OTHER).returncode == 0
    made = (repository / "action.yml").read_text("utf-8")
    image = f"docker://ghcr.io/org/chalice-action:1.2.3@{DIGEST}"
    assert yaml.safe_load(made)["runs"]["image"] == image
    assert made.replace(image, "Dockerfile") == action_text()
    assert release(repository, "action", "1.2.3", DIGEST, "latest").returncode == 1


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text())["jobs"][job]["steps"]
    return found


class Shell:
    """Runs the workflow's own shell steps, with recorders for what reaches a registry."""

    def __init__(self, root: Path, tmp_path: Path) -> None:
        self.root = root
        self.recorded = tmp_path / "recorded"
        self.output = tmp_path / "output"
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("docker", "cosign", "gh"):
            (tools / name).write_text(RECORDER % DIGEST)
            (tools / name).chmod(0o755)
        config = tmp_path / "gitconfig"
        config.write_text(
            f'[url "file://{tmp_path}/remote.git"]\n'
            "  insteadOf = https://x-access-token:secret@github.com/org/chalice-action\n"
            "[user]\n  name = Dev\n  email = dev@example.invalid\n"
        )
        self.env = environ(
            PATH=f"{tools}{os.pathsep}{os.environ['PATH']}",
            RECORDED=str(self.recorded),
            GITHUB_OUTPUT=str(self.output),
            GITHUB_REPOSITORY="org/chalice-action",
            GIT_CONFIG_GLOBAL=str(config),
            IMAGE="ghcr.io/org/chalice-action",
            VERSION=__version__,
            TOKEN="secret",
            ACTOR="you",
        )

    def run(self, step: dict[str, Any], **env: str) -> subprocess.CompletedProcess[str]:
        # As the runner starts a shell that a step does not choose.
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-c", step["run"]],
            cwd=self.root,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def shell(repository: Path, tmp_path: Path) -> Shell:
    return Shell(repository, tmp_path)


def step(job: str, words: str) -> dict[str, Any]:
    (found,) = (one for one in steps(job) if words in one.get("run", ""))
    return found


def test_the_names_of_a_version_are_given_once(shell: Shell) -> None:
    naming = step("publish", "imagetools create")
    digests = {name: f"sha256:{name}" for name in naming["env"]}
    done = shell.run(naming, **digests)
    assert done.returncode == 0, done.stderr
    assert shell.output.read_text() == f"digest={DIGEST}\nrehearsal-digest={DIGEST}\n"
    created = [line for line in shell.recorded.read_text().splitlines() if " create " in line]
    assert [re.findall(r"--tag (\S+)|@(\S+)", line) for line in created] == [
        [
            (f"ghcr.io/org/chalice-action:{__version__}", ""),
            ("", "sha256:AMD64"),
            ("", "sha256:ARM64"),
        ],
        [
            (f"ghcr.io/org/chalice-action:{__version__}-rehearsal", ""),
            ("", "sha256:REHEARSAL_AMD64"),
            ("", "sha256:REHEARSAL_ARM64"),
        ],
    ]
    again = shell.run(naming, EXISTS="0", **digests)
    assert again.returncode == 1
    assert "exists" in again.stderr


def test_the_tags_are_on_a_commit_that_names_the_image_and_the_major_one_moves(
    shell: Shell, tmp_path: Path
) -> None:
    root, remote = shell.root, tmp_path / "remote.git"
    major = f"v{__version__.partition('.')[0]}"
    git(remote, "tag", major, "main")
    tagging = step("publish", "git tag --annotate")
    done = shell.run(tagging, DIGEST=DIGEST, REHEARSAL=OTHER)
    assert done.returncode == 0, done.stderr
    released = git(remote, "rev-parse", f"v{__version__}^{{commit}}")
    assert git(remote, "rev-parse", f"{major}^{{commit}}") == released
    assert git(remote, "rev-parse", f"{released}^") == git(remote, "rev-parse", "main")
    changed = git(remote, "diff", "--name-only", "main", released).splitlines()
    assert changed == ["action.yml", "rehearsal/action.yml"]
    assert OTHER in git(remote, "show", f"{released}:rehearsal/action.yml")
    assert DIGEST in git(remote, "show", f"{released}:action.yml")
    assert f"gh release create v{__version__} --verify-tag" in shell.recorded.read_text()
    assert (root / "notes.md").read_text().strip()

    refused = shell.run(tagging, DIGEST=DIGEST, REHEARSAL=OTHER)
    assert refused.returncode == 1
    assert "never made twice" in refused.stderr
    assert git(remote, "rev-parse", f"v{__version__}^{{commit}}") == released


def test_both_images_are_built_for_both_architectures_and_pushed_without_a_name(
    shell: Shell,
) -> None:
    pushing = step("build", "push-by-digest=true")
    for target in ("action", "rehearsal"):
        (shell.root / f"{target}.json").write_text(f'{{"containerimage.digest": "{DIGEST}"}}')
    done = shell.run(pushing, ARCHITECTURE="arm64")
    assert done.returncode == 0, done.stderr
    assert shell.output.read_text() == f"arm64={DIGEST}\nrehearsal-arm64={DIGEST}\n"
    built = shell.recorded.read_text().splitlines()
    assert [re.findall(r"--target (\S+) --platform (\S+)", line) for line in built] == [
        [("action", "linux/arm64")],
        [("rehearsal", "linux/arm64")],
    ]
    assert not any("--tag" in line for line in built)
    stages = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {"action", "rehearsal"} <= set(stages)


def test_what_is_signed_is_what_was_named(shell: Shell) -> None:
    signing = step("publish", "cosign sign")
    assert signing["env"] == {
        "DIGEST": "${{ steps.name.outputs.digest }}",
        "REHEARSAL": "${{ steps.name.outputs.rehearsal-digest }}",
    }
    attested = [
        s["with"]["subject-digest"] for s in steps("publish") if "attest" in s.get("uses", "")
    ]
    assert attested == list(signing["env"].values())
    done = shell.run(signing, DIGEST="sha256:a", REHEARSAL="sha256:b")
    assert done.returncode == 0
    image = "ghcr.io/org/chalice-action"
    assert shell.recorded.read_text().split()[-2:] == [f"{image}@sha256:a", f"{image}@sha256:b"]
