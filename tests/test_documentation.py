"""What the documentation tells to type or to copy is what the product takes."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import boto3
import click
import pytest
import yaml
from botocore import xform_name

from chalice_ci.cli import VERBS, command_line
from chalice_ci.config import read_project_config
from chalice_ci.errors import ExitCode, UserError
from chalice_ci.inputs import COMMAND, INPUTS, Kind, inputs_of, read_inputs
from chalice_ci.outputs import OUTPUTS
from chalice_ci.pipeline import COMMANDS
from chalice_ci.rules import RULES as RULES_BY_NAME
from chalice_ci.signing import SHORTEST
from support.commandline import write
from support.documentation import (
    ROOT,
    Shown,
    blocks,
    command_lines,
    commands_of,
    documents,
    inline,
    prose,
)
from test_examples import ACTIONS, actionlint, tool

LOCAL_SERVERS = ("chalice_ci.local", "chalice_ci.local.gateway")
OTHERS_OPTIONS = {
    "pip's, in requirements.txt": (
        *("--config-settings", "--extra-index-url", "--find-links", "--global-option", "--hash"),
        *("--index-url", "--no-binary", "--no-index", "--only-binary", "--pre", "--prefer-binary"),
        *("--require-hashes", "--trusted-host", "--use-feature"),
    ),
    "Chalice's": ("--api-gateway-stage", "--pkg-format", "--follow", "--package-dir"),
    "the benchmarks'": ("--mode", "--payload"),
}
"""Options in the text that are no option of a command of ours, and whose they are."""


# -- commands --------------------------------------------------------------------------------------


def parsed(arguments: tuple[str, ...]) -> str:
    """What is wrong with a command line of ours; empty when it is taken."""
    group = command_line(lambda _verb, _inputs, _given: ExitCode.OK, {})
    try:
        group.main(list(arguments), prog_name="chalice-ci", standalone_mode=False)
    except click.exceptions.Exit:
        return ""
    except click.ClickException as problem:
        return problem.format_message()
    except UserError as problem:
        return problem.what
    return ""


def ours(words: tuple[str, ...]) -> str:
    return parsed(words[1:])


def plain_chalice(words: tuple[str, ...]) -> str:
    from chalice.cli import cli

    command: click.Command = cli
    context = click.Context(cli, info_name="chalice")
    rest = list(words[1:])
    while isinstance(command, click.Group) and rest:
        found = command.get_command(context, rest.pop(0))
        if found is None:
            return f"chalice has no {words[1]}"
        command = found
    try:
        command.make_context("chalice", rest, parent=context)
    except click.ClickException as problem:
        return problem.format_message()
    return ""


def git(words: tuple[str, ...]) -> str:
    listed = subprocess.run(
        ["git", "--list-cmds=main"], capture_output=True, text=True, check=True
    ).stdout.split()
    return "" if words[1] in listed else f"git has no {words[1]}"


def make(words: tuple[str, ...]) -> str:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wrong = [word for word in words[1:] if "=" not in word and word not in targets]
    return f"no targets: {wrong}" if wrong else ""


def docker(words: tuple[str, ...]) -> str:
    if words[1] == "build":
        targets = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        given = [words[at + 1] for at, word in enumerate(words) if word == "--target"]
        return "" if set(given) <= set(targets) else f"the Dockerfile has no {given}"
    # What follows the image is what its entry point is given.
    image = next((at for at, word in enumerate(words) if word in IMAGES), None)
    if image is None:
        return f"which of it is the image? Known are {IMAGES}"
    return parsed(words[image + 1 :])


def pip(words: tuple[str, ...]) -> str:
    offered = metadata("chalice-ci").get_all("Provides-Extra") or []
    for word in words[2:]:
        found = re.fullmatch(r"chalice-ci(?:\[([\w,]+)\])?", word)
        if not word.startswith("-") and found is None:
            return f"{word} is not ours"
        if found and found[1] and not set(found[1].split(",")) <= set(offered):
            return f"there is no extra {found[1]}"
    return ""


def aws(words: tuple[str, ...]) -> str:
    """By botocore's description of the service, as the AWS CLI makes its commands."""
    service, operation, *rest = words[1:]
    model = boto3.Session("x", "x", region_name="us-east-1").client(service).meta.service_model
    known = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in known:
        return f"{service} has no {operation}"
    shape = model.operation_model(known[operation]).input_shape
    options = {f"--{xform_name(name, '-')}" for name in (shape.members if shape else ())}
    wrong = [word for word in rest if word.startswith("--") and word not in options]
    return f"no options: {wrong}" if wrong else ""


def file_of_ours(words: tuple[str, ...]) -> str:
    there = (ROOT / words[0]).is_file() and os.access(ROOT / words[0], os.X_OK)
    return "" if there else f"there is no {words[0]}"


def python(words: tuple[str, ...]) -> str:
    if words[1] == "-m" and words[2] == "chalice_ci":
        return parsed(words[3:])
    if words[1].startswith("-") and words[1] != "-m":
        return ""
    name = words[2] if words[1] == "-m" else words[1]
    if words[1] == "-m" and not name.startswith("chalice_ci"):
        return ""
    places = (name, f"src/{name.replace('.', '/')}.py", f"src/{name.replace('.', '/')}/__main__.py")
    return "" if any((ROOT / place).is_file() for place in places) else f"there is no {name}"


def circleci(words: tuple[str, ...]) -> str:
    """The CLI's words are not ours to know; what it is pointed at is."""
    if words[1] != "orb":
        return f"circleci has no {words[1]} here"
    folders = [word for word in words[3:] if "/" in word and "@" not in word]
    return "" if all((ROOT / folder).is_dir() for folder in folders) else f"no {folders}"


def jq(words: tuple[str, ...]) -> str:
    schema = json.loads((ROOT / "src/chalice_ci/schemas/report.schema.json").read_text())
    strange = set(re.findall(r"[a-z_]\w*", words[1])) - set(keys_of(schema, schema))
    return f"report.json has no {sorted(strange)}" if strange else ""


def openssl(words: tuple[str, ...]) -> str:
    """All that is made with it are signing keys."""
    if words[1:3] != ("rand", "-base64"):
        return "nothing is known of this"
    characters = 4 * -(-int(words[3]) // 3)
    return "" if characters >= SHORTEST else f"{characters} characters are too few for a key"


def pytest_of_ours(words: tuple[str, ...]) -> str:
    gone = [word for word in words[1:] if "/" in word and not (ROOT / word).exists()]
    return f"there is no {gone}" if gone else ""


def others(_words: tuple[str, ...]) -> str:
    """A program that is not ours, and of which nothing is promised."""
    return ""


RULES = ("docs/findings.md", "docs/upgrades.md")
"""Before and after: what is wrong, and what is right."""

IMAGES = ("IMAGE", "chalice-ci", "localhost/chalice-ci")
PROGRAMS: Mapping[str, Callable[[tuple[str, ...]], str]] = {
    ".ci/image": file_of_ours,
    ".venv/bin/python": python,
    "aws": aws,
    "cd": others,
    "chalice": plain_chalice,
    "chalice-ci": ours,
    "circleci": circleci,
    # The wrapper of plugins/docker, where docs/docker.md puts it.
    "ci/chalice-ci": ours,
    "docker": docker,
    "export": others,
    "git": git,
    "jq": jq,
    "ls": others,
    "make": make,
    "openssl": openssl,
    "pip": pip,
    "pytest": pytest_of_ours,
    "python": python,
    "uv": others,
}
"""Who knows whether a command line is right, by the program."""


def test_every_command_line_in_a_block_is_taken_by_the_program_that_it_starts() -> None:
    wrong, seen = [], 0
    for block, words in command_lines():
        if block.before == "Before:" and block.at.startswith(RULES):
            continue
        program = PROGRAMS.get(words[0])
        problem = "nothing here knows this program" if program is None else program(words)
        seen += words[0] == "chalice-ci"
        if problem:
            wrong.append(f"{block.at}: {' '.join(words)}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert seen > 25, "the blocks were not found"


def inline_commands() -> Iterator[tuple[Shown, tuple[str, ...]]]:
    for shown in inline():
        words = tuple(shown.text.split())
        if words[0] == "chalice-ci" and len(words) > 1:
            # Any verb will do.
            yield shown, ("check" if words[1] == "VERB" else words[1], *words[2:])


def test_every_command_of_ours_in_the_text_is_one() -> None:
    wrong, seen = [], 0
    for shown, words in inline_commands():
        seen += 1
        # The text may name a command without what it needs: `policy --compare`.
        if parsed(words) and (problem := parsed((*words, "x"))):
            wrong.append(f"{shown.at}: {shown.text}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert seen > 25


def left_open(problem: str) -> bool:
    """Whether nothing is wrong but that the text names a command without what it needs."""
    return (
        not problem
        or re.search(r"requires an argument|Missing (argument|option)", problem) is not None
    )


def test_every_command_of_another_program_in_the_text_is_one() -> None:
    wrong, seen = [], 0
    for shown in inline():
        words = next(commands_of(shown.text), ()) if "'" not in shown.text else ()
        known = PROGRAMS.get(words[0]) if words[1:] else None
        if known in (None, ours):
            continue
        seen += 1
        # What Chalice no longer takes is named too, and an image may go without saying.
        if shown.text == "chalice deploy STAGE":
            continue
        if not any(left_open(known(one)) for one in (words, (*words, "IMAGE", "check"))):
            wrong.append(f"{shown.at}: {shown.text}: {known(words)}")
    assert not wrong, "\n".join(wrong)
    assert seen > 25


def test_every_verb_in_the_text_takes_what_it_is_given() -> None:
    verbs = {verb.name.split()[0] for verb in VERBS}
    given = [(shown, tuple(shown.text.split())) for shown in inline()]
    given = [(shown, words) for shown, words in given if words[0] in verbs and words[1:]]
    wrong = [f"{shown.at}: {shown.text}" for shown, words in given if not left_open(parsed(words))]
    assert not wrong, "\n".join(wrong)
    assert len(given) > 10


def test_every_option_in_the_text_is_somebodys() -> None:
    own = {"--help", "--version"}
    for item in INPUTS:
        own |= {f"--{item.name}"} | ({f"--no-{item.name}"} if item.kind is Kind.FLAG else set())
    own |= {f"--{flag}" for verb in VERBS for flag, _ in verb.flags}
    for module in LOCAL_SERVERS:
        told = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
        )
        own |= set(re.findall(r"--[a-z][a-z-]*", told.stdout))
    foreign = {option for options in OTHERS_OPTIONS.values() for option in options}
    used = {
        re.split(r"[ =|]", shown.text)[0]: shown.at
        for shown in inline()
        if re.match(r"--[a-z]", shown.text)
    }
    assert not {option: at for option, at in used.items() if option not in own | foreign}
    assert not foreign - used.keys(), "nobody speaks of these any more"


def test_a_wrong_command_line_would_be_found() -> None:
    assert "No such option" in parsed(("check", "--sage", "dev"))
    assert "No such command" in parsed(("chekc",))
    assert "No such command" in parsed(("state", "forget"))
    assert "format" in parsed(("check", "--format", "xml"))
    assert "Missing argument" in parsed(("state", "import"))
    assert plain_chalice(("chalice", "deploy", "--sage", "dev"))
    assert make(("make", "nothing"))
    assert aws(("aws", "cloudformation", "forget-stack"))
    assert aws(("aws", "cloudformation", "delete-stack", "--stack"))
    assert docker(("docker", "run", "IMAGE", "chekc"))
    assert pip(("pip", "install", "chalice-ci[nothing]"))
    assert circleci(("circleci", "orb", "pack", "plugins/circleci/source"))
    assert jq(("jq", ".results[].verdikt"))
    assert openssl(("openssl", "rand", "-base64", "15"))
    assert pytest_of_ours(("pytest", "tests/test_nothing.py"))
    assert not left_open(parsed(("init", "--sistem")))
    assert left_open(parsed(("init", "--system")))


# -- YAML ------------------------------------------------------------------------------------------

CONFIGURATION = frozenset(
    json.loads((ROOT / "src/chalice_ci/schemas/chalice-ci.schema.json").read_text())["properties"]
)
WORKFLOW = frozenset(("name", "on", "permissions", "jobs", "concurrency", "defaults", "run-name"))
SNIPPETS = tuple(blocks("yaml", "yml"))


def loaded(text: str) -> Any:
    """As GitHub reads it: `on` is a key like any other."""
    found = yaml.safe_load(text)
    if isinstance(found, dict):
        return {"on" if key is True else key: value for key, value in found.items()}
    return found


def kind_of(found: Any) -> str:
    """What a snippet is a part of; empty when nothing here knows."""
    if isinstance(found, list):
        return "workflow" if all({"uses", "run"} & step.keys() for step in found) else ""
    if not isinstance(found, dict):
        return ""
    keys = frozenset(found)
    if keys & {"jobs", "on"} and keys <= WORKFLOW | {"env"}:
        return "workflow"
    if keys <= CONFIGURATION:
        return "configuration"
    if keys <= {"steps", "permissions", "env", "environment", "concurrency", "if", "with"}:
        return "workflow"
    if keys <= {"include", "workflow"}:
        return "pipeline of GitLab"
    return ""


def whole(found: Any) -> Any:
    """The workflow around a part of one."""
    step = {"run": "true"}
    if isinstance(found, list):
        found = {"steps": found}
    if found.keys() == {"with"}:
        found = {"steps": [{"uses": "actions/setup-python@v6", **found}]}
    if "jobs" in found:
        empty = {"runs-on": "ubuntu-latest", "steps": [step]}
        jobs = found["jobs"].items()
        found = {
            **found,
            "jobs": {name: job if "uses" in job else {**empty, **job} for name, job in jobs},
        }
    if not found.keys() & {"jobs", "on"}:
        # The jobs that it takes an output of are others.
        taken = re.findall(r"\bneeds\.(\w+)\.outputs\.(\w+)", json.dumps(found))
        needs = {"needs": sorted({name for name, _ in taken})} if taken else {}
        found = {"jobs": {"one": {"runs-on": "ubuntu-latest", "steps": [step], **needs, **found}}}
        for name, output in taken:
            job = {"runs-on": "ubuntu-latest", "steps": [step], "outputs": {output: "x"}}
            found["jobs"].setdefault(name, job)["outputs"][output] = "x"
    return {"on": "push", "jobs": {"one": {"runs-on": "ubuntu-latest", "steps": [step]}}, **found}


def workflow_snippets() -> Iterator[tuple[Shown, Any]]:
    for snippet in SNIPPETS:
        found = loaded(snippet.text)
        if kind_of(found) == "workflow" and not known_elsewhere(snippet):
            yield snippet, whole(found)


def known_elsewhere(snippet: Shown) -> bool:
    """What a rule finds wrong, and what shows settings or roles that have no file of their own."""
    if not snippet.at.startswith(RULES):
        return False
    return snippet.before == "Before:" or not kind_of(loaded(snippet.text))


def test_every_yaml_snippet_is_of_a_kind_that_is_looked_at() -> None:
    strange = [
        snippet.at
        for snippet in SNIPPETS
        if not kind_of(loaded(snippet.text)) and not known_elsewhere(snippet)
    ]
    assert not strange
    assert len(SNIPPETS) > 15


def test_a_pipeline_of_gitlab_is_a_part_of_the_one_that_is_tested() -> None:
    tested = (ROOT / "plugins" / "gitlab" / ".gitlab-ci.yml").read_text(encoding="utf-8")
    pipelines = [one for one in SNIPPETS if kind_of(loaded(one.text)) == "pipeline of GitLab"]
    assert pipelines
    assert not [one.at for one in pipelines if one.text.strip() not in tested]


def test_every_workflow_in_the_documentation_is_one(tmp_path: Path) -> None:
    """By the schema of workflows and by actionlint, with what a part leaves out put around it."""
    folder = tmp_path / "snippets"
    folder.mkdir()
    written = []
    for number, (snippet, made) in enumerate(workflow_snippets()):
        path = folder / f"{number:02}-{re.sub(r'[^a-z0-9]+', '-', snippet.at.lower())}.yml"
        path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
        written.append(path)
    assert len(written) > 5
    done = tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *written)
    assert done.returncode == 0, done.stdout
    others = ROOT / "workflows-examples/reusable.yml"
    linted = actionlint(*written, others, folder=tmp_path / "repository")
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert f"{len(written) + 1} workflow file" in linted.stdout


def test_what_a_snippet_gives_our_action_are_its_inputs() -> None:
    known = {item.name for item in inputs_of("action")}
    seen = 0
    for snippet, made in workflow_snippets():
        for job in made["jobs"].values():
            for step in job.get("steps", ()):
                if str(step.get("uses")) not in ACTIONS:
                    continue
                seen += 1
                values = step.get("with", {})
                assert values.keys() <= known, snippet.at
                given = {f"INPUT_{key.upper()}": str(value) for key, value in values.items()}
                assert read_inputs(given, {}).text(COMMAND) in COMMANDS, snippet.at
    assert seen > 5


def configurations() -> tuple[Shown, ...]:
    return tuple(
        snippet
        for snippet in SNIPPETS
        if kind_of(loaded(snippet.text)) == "configuration" and not known_elsewhere(snippet)
    )


@pytest.mark.parametrize("snippet", configurations(), ids=str)
def test_every_configuration_in_the_documentation_is_valid(snippet: Shown, tmp_path: Path) -> None:
    found = loaded(snippet.text)
    text = snippet.text if "version" in found else f"version: 1\n{snippet.text}"
    folders = [app["path"] for app in found.get("apps", {}).values()] or ["."]
    # Part of a file may lean on stages and apps that it does not show.
    for folder in folders:
        config = '{"version": "2.0", "app_name": "orders", "stages": {"dev": {}, "prod": {}}}'
        write(tmp_path / folder, {".chalice/config.json": config, "app.py": ""})
    (tmp_path / "chalice-ci.yml").write_text(text, encoding="utf-8")
    config = read_project_config(tmp_path)
    assert len(config.apps) == len(folders)
    assert {stage.name for stage in config.stages} >= found.get("stages", {}).keys()


@pytest.mark.parametrize("snippet", tuple(blocks("json", "python", "groovy")), ids=str)
def test_every_other_snippet_is_of_the_language_that_it_says(snippet: Shown) -> None:
    match snippet.language:
        case "json":
            json.loads(snippet.text)
        case "python" if not broken(snippet):
            ast.parse(snippet.text)
        case "groovy":
            # Run as a pipeline of Jenkins's where Groovy is installed.
            text = (ROOT / "tests/jenkins/test_jenkins.py").read_text(encoding="utf-8")
            assert "def test_what_the_documentation_shows_is_run(" in text
            assert snippet.at.startswith("docs/jenkins.md")


def broken(snippet: Shown) -> bool:
    """Whether it is the one that shows a syntax error."""
    rule = RULES_BY_NAME["load-syntax-error"]
    return snippet.before == "Before:" and snippet.text.strip() == rule.before.strip()


# -- links, and a place for everything -------------------------------------------------------------

LINK = re.compile(r"(?<!\\)\]\((?P<target>[^)\s]+)\)")


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    found: set[str] = {""}
    for line in prose(path).splitlines():
        if heading := re.fullmatch(r"#{1,6} (.*)", line):
            name = slug(heading[1])
            found.add(name if name not in found else f"{name}-1")
    return found


def test_every_link_between_documents_leads_to_a_file_and_to_a_heading_of_it() -> None:
    dead, seen = [], 0
    for path in documents():
        for found in LINK.finditer(prose(path)):
            target, _, anchor = found["target"].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            seen += 1
            place = path if not target else path.parent / target
            if not place.exists():
                dead.append(f"{path.relative_to(ROOT)}: {found['target']}")
            elif place.suffix == ".md" and anchor not in anchors(place):
                dead.append(f"{path.relative_to(ROOT)}: {found['target']}: no such heading")
    assert not dead, "\n".join(dead)
    assert seen > 100


def test_every_document_has_a_page_in_the_navigation_of_the_site() -> None:
    site = runpy.run_path(str(ROOT / "docs/build_site.py"))
    pages = [name for names in site["navigation"]().values() for name in names]
    assert sorted(pages) == [path.relative_to(ROOT).as_posix() for path in documents()]


def test_a_site_with_a_dead_link_or_something_to_fetch_would_be_found(tmp_path: Path) -> None:
    site = runpy.run_path(str(ROOT / "docs/build_site.py"))
    page = '<h1 id="top"></h1><a href="b.html#x"></a><a href="c.html"></a><a href="#top"></a>'
    fetch = '<script src="https://cdn.example/x.js"></script><link rel="icon" href="none.png">'
    write(tmp_path, {"a.html": page + fetch, "b.html": "<p>", "s.css": "a{background:url(b)}"})
    assert set(site["problems_of"](tmp_path)) == {
        "a.html: b.html#x has no such anchor",
        "a.html: there is no c.html",
        "a.html: loads https://cdn.example/x.js",
        "a.html: there is no none.png",
    }


def keys_of(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    """Every key that a schema of ours names, at any depth."""
    if reference := schema.get("$ref"):
        yield from keys_of(whole["$defs"][reference.rpartition("/")[2]], whole)
    for name, value in schema.get("properties", {}).items():
        yield name
        yield from keys_of(value, whole)
    for inner in (
        *schema.get("oneOf", ()),
        *schema.get("anyOf", ()),
        *(schema[key] for key in ("items", "additionalProperties") if key in schema),
        *schema.get("patternProperties", {}).values(),
    ):
        if isinstance(inner, dict):
            yield from keys_of(inner, whole)


def test_everything_that_is_declared_has_its_place() -> None:
    def text(name: str) -> str:
        return (ROOT / "docs" / name).read_text(encoding="utf-8")

    inputs, keys = text("inputs.md"), text("configuration.md")
    schema = json.loads((ROOT / "src/chalice_ci/schemas/chalice-ci.schema.json").read_text())
    configured = set(keys_of(schema, schema))
    assert len(configured) > 25
    missing = [
        *(f"rule {name}" for name in RULES_BY_NAME if f"\n### {name}\n" not in text("findings.md")),
        *(f"input {item.name}" for item in INPUTS if f"| `{item.name}` |" not in inputs),
        *(f"verb {verb.name}" for verb in VERBS if f"| `{verb.name}` |" not in inputs),
        *(f"key {key}" for key in configured if not re.search(rf"`[^`\n]*\b{key}\b", keys)),
        *(f"exit code {int(code)}" for code in ExitCode if f"\n| {int(code)} |" not in inputs),
        *(f"output {one.name}" for one in OUTPUTS if f"| `{one.name}` |" not in text("image.md")),
    ]
    assert not missing
