"""The first try: an empty repository, what `chalice new-project` writes, the README's workflow.

Nothing is changed of either. The total output is read here as its first reader would.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from act.test_act import Story, story
from offline_github.emulate import BOT, REPOSITORY
from support.commandline import commit, environ, git

__all__ = ["story"]

README = Path(__file__).parents[2] / "README.md"
WORKFLOW = ".github/workflows/chalice.yml"
JARGON = re.compile(
    r"Traceback|DeprecationWarning|ResourceWarning|zone [123]|sandbox uid|\bNone\b|<[a-z_.]+ object"
)


def test_the_readmes_workflow_works_at_once_on_what_chalice_new_project_wrote(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = re.findall(
        r"<!-- generated: minimal-workflow -->\n```yaml\n(.*?)```", README.read_text(), re.DOTALL
    )
    subprocess.run(
        [Path(sys.executable).parent / "chalice", "new-project", "shop"],
        cwd=tmp_path,
        env=environ(),
        check=True,
        capture_output=True,
        timeout=120,
    )
    root = story.workspace
    shutil.copytree(tmp_path / "shop", root)
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "remote", "add", "origin", f"https://github.com/{REPOSITORY}")
    (root / WORKFLOW).parent.mkdir(parents=True)
    (root / WORKFLOW).write_text(text)
    commit(root, "Begin")
    story.pushed("main")
    story.examples = root / ".github/workflows"

    pushed = story.run("chalice.yml", "push", story.push("refs/heads/main"), "deploy")
    assert pushed.code == 0, pushed.said
    assert pushed.jobs == {"Deploy": True}
    assert story.functions() == {"shop-dev"}
    assert {"api_handler", "rest_api"} <= {found["name"] for found in story.recorded("dev")}

    git(root, "switch", "--quiet", "--create", "change")
    app = root / "app.py"
    app.write_text(app.read_text() + "\n\n@app.route('/more')\ndef more():\n    return {}\n")
    commit(root)
    sha = story.pushed("change")
    number = story.github.emulator.pull_request("change")
    payload = story.pull_request("opened", number, sha)
    payload["pull_request"]["base"]["sha"] = git(root, "rev-parse", "main")
    checked = story.run("chalice.yml", "pull_request", payload, "check")
    assert checked.code == 0, checked.said
    assert checked.jobs == {"Check": True}
    (comment,) = story.github.emulator.comments(number, by=BOT)
    assert "GET /more" in comment["body"]

    with capsys.disabled():
        for ended in (pushed, checked):
            lines = of_ours(ended.said)
            print("\n" + "\n".join(lines))
            # What a person has to read: short, with progress, in words of Chalice, AWS and GitHub.
            assert 3 <= len(lines) <= 60, lines
            assert not [line for line in lines if JARGON.search(line)]
    assert any("loading" in line for line in of_ours(pushed.said))
    assert any("https://" in line for line in of_ours(pushed.said))


def of_ours(said: str) -> list[str]:
    """The lines that the action wrote, as the log of a job shows them."""
    lines = said.splitlines()
    return [line.partition("| ")[2] for line in lines if re.match(r"\[.*\]\s+\| ", line)]
