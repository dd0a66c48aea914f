"""The generated parts of the documentation: `python -m chalice_ci.reference` writes them anew.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; a test holds every
file equal to what this module would write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from chalice_ci import config, config_keys, outputs
from chalice_ci.action import action_text, rehearsal_text
from chalice_ci.cli import VERBS
from chalice_ci.errors import ExitCode
from chalice_ci.inputs import markdown_table
from chalice_ci.scaffold.workflows import SOURCES

_PART = re.compile(
    r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL
)


def exit_code_table() -> str:
    """The exit codes, with the value of `failure-reason` for each."""
    rows = ["| Exit | Reason | Meaning |", "| --- | --- | --- |"]
    for code in ExitCode:
        reason = f"`{code.reason}`" if code.reason else ""
        rows.append(f"| {int(code)} | {reason} | {code.meaning} |")
    return "\n".join(rows) + "\n"


def verb_table() -> str:
    """The verbs with an example each."""
    rows = ["| Verb | Does | Example |", "| --- | --- | --- |"]
    rows += [f"| `{verb.name}` | {verb.summary} | `{verb.example}` |" for verb in VERBS]
    return "\n".join(rows) + "\n"


def minimal_workflow() -> str:
    """The smallest of the tested examples, as README shows it."""
    file = Path(__file__).parents[2] / "workflows-examples" / "minimal.yml"
    return f"```yaml\n{file.read_text(encoding='utf-8')}```\n"


_PERMISSION = re.compile(r"^ +([a-z-]+): (read|write) # (.+)$", re.MULTILINE)
_JOB = re.compile(r"^  ([a-z-]+):\n", re.MULTILINE)


def permission_table() -> str:
    """What each job of the examples asks for, and why, as the files themselves say it."""
    rows = ["| Example | Job | Permission | For |", "| --- | --- | --- | --- |"]
    for file in sorted((Path(__file__).parents[2] / "workflows-examples").glob("*.yml")):
        _, _, jobs = file.read_text(encoding="utf-8").partition("\njobs:\n")
        parts = _JOB.split(jobs)[1:]
        for job, text in zip(parts[::2], parts[1::2], strict=True):
            rows += [
                f"| `{file.name}` | `{job}` | `{name}: {level}` | {reason} |"
                for name, level, reason in _PERMISSION.findall(text)
            ]
    return "\n".join(rows) + "\n"


PARTS: Mapping[str, Callable[[], str]] = {
    "inputs": markdown_table,
    "outputs": outputs.markdown_table,
    "exit-codes": exit_code_table,
    "verbs": verb_table,
    "configuration-keys": config.markdown_table,
    "config-json-keys": config_keys.markdown_table,
    "minimal-workflow": minimal_workflow,
    "permissions": permission_table,
}


def rewritten(text: str) -> str:
    """The text with every generated part as it is now. KeyError for a part nobody generates."""

    def part(match: re.Match[str]) -> str:
        return match["head"] + PARTS[match["name"]]() + match["tail"]

    return _PART.sub(part, text)


def documents(root: Path) -> tuple[Path, ...]:
    """The files that may hold generated parts."""
    return (root / "README.md", *sorted((root / "docs").rglob("*.md")))


def scaffold_files(root: Path) -> Mapping[str, str]:
    """The examples that `chalice-ci init` writes from, as the package carries them."""
    examples = root / "workflows-examples"
    plugins = root / "plugins"
    sources = {
        **{f"{name}.yml": examples / f"{name}.yml" for name in SOURCES},
        "gitlab-ci.yml": plugins / "gitlab/.gitlab-ci.yml",
        "pipelines/circleci.yml": plugins / "circleci/config.yml",
        "pipelines/Jenkinsfile": plugins / "jenkins/Jenkinsfile",
        "pipelines/bitbucket.yml": plugins / "bitbucket/bitbucket-pipelines.yml",
        "pipelines/azure.yml": plugins / "azure/azure-pipelines.yml",
        "pipelines/buildkite.yml": plugins / "buildkite/pipeline.yml",
        **{
            f"pipelines/codebuild-{name}.yml": plugins / "codebuild" / f"{name}.yml"
            for name in ("pipeline", "check", "plan", "deploy")
        },
    }
    return {name: path.read_text("utf-8") for name, path in sources.items()}


def main() -> None:
    """Rewrite the documents, the schema and action.yml of the checkout that this module is in."""
    root = Path(__file__).parents[2]
    (root / "action.yml").write_text(action_text(), encoding="utf-8")
    (root / "rehearsal/action.yml").write_text(rehearsal_text(), encoding="utf-8")
    schema = Path(__file__).parent / "schemas/chalice-ci.schema.json"
    schema.write_text(config.schema_text(), encoding="utf-8")
    for name, text in scaffold_files(root).items():
        path = Path(__file__).parent / "scaffold" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in documents(root):
        before = path.read_text(encoding="utf-8")
        after = rewritten(before)
        if after != before:
            path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
