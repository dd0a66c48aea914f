"""The pictures of the findings: drawn from the product's words, one for each rule, and current."""

from __future__ import annotations

import ast
import json
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from chalice_ci.chalice_config import check_chalice_config, read_chalice_config
from chalice_ci.config import AppConfig, read_project_config
from chalice_ci.doctor.rules import DOCTOR
from chalice_ci.errors import UserError
from chalice_ci.findings import Finding
from chalice_ci.rules import RULES, document, picture_of
from support.commandline import write
from test_doctor import WRONG, SetUp, audit

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
DRAW = runpy.run_path(str(PICTURES / "findings.py"))
WORDS: dict[str, dict[str, Any]] = json.loads((PICTURES / "findings.json").read_text())
OF_OTHERS = (
    ("chalice-validation", "Route cannot end with a trailing slash: /orders/"),
    ("experimental-flags-type", "app.experimental_feature_flags.update(['WEBSOCKETS'])"),
    ("experimental-flag-unknown", "Write 'WEBSOCKETS'."),
    ("config-json-missing", "Write .chalice/config.json:"),
)
"""What Chalice says itself, a line to copy, and what is too short to tell."""

OF_ONE_FILE = (
    "config",
    *(
        one
        for one in WORDS
        if one.startswith("config-json-")
        if one not in ("config-json-missing", "config-json-app-name-differs")
    ),
)
"""What the file of the example alone brings the product to say."""

TELLING = 8
"""Letters that a template has to have of its own: `f"{what}."` is no wording."""


def test_the_pictures_are_what_the_product_shows_now() -> None:
    drawn = {
        path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
        for path in (PICTURES / "findings").glob("*.svg")
    }
    assert drawn == DRAW["pictures"](), "run `make docs`, and look at what came of it"
    assert sum(map(len, drawn.values())) < 1_000_000


def test_every_rule_has_its_picture_in_the_documentation() -> None:
    text = document()
    assert sorted(WORDS) == sorted(RULES)
    for rule in RULES.values():
        section = text.partition(f"\n### {rule.name}\n")[2].partition("\n### ")[0]
        assert f"]({picture_of(rule)})" in section


def pieces_of(node: ast.expr) -> tuple[str, ...] | None:
    """What a text of the source has of its own, around what it fills in; None for no text."""
    match node:
        case ast.Constant(value=str(text)):
            return tuple(re.split(r"\{\w+\}", text))
        case ast.JoinedStr(values=values):
            found: list[str] = [""]
            for value in values:
                if isinstance(value, ast.Constant):
                    found[-1] += str(value.value)
                else:
                    found.append("")
            return tuple(found)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return (*(pieces_of(left) or ("",)), *(pieces_of(right) or ("",)))
    return None


@cache
def wordings() -> tuple[tuple[str, ...], ...]:
    """Every wording in the source of the product that has enough letters to be told by."""
    found = set()
    for path in (ROOT / "src/chalice_ci").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            pieces = pieces_of(node) if isinstance(node, ast.expr) else None
            own = "".join(pieces or ())
            if pieces and " " in own and len(re.sub("[^a-zA-Z]", "", own)) >= TELLING:
                found.add(pieces)
    return tuple(found)


def fits(text: str, pieces: tuple[str, ...]) -> bool:
    """Whether a text begins as a wording does and has the rest of it in order."""
    at = len(pieces[0])
    if not text.startswith(pieces[0]):
        return False
    for piece in pieces[1:]:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def wording(text: str) -> bool:
    """Whether the source of the product has words for a text that begins like this."""
    # A sentence begins with a capital, wherever its words come from, or with what it is about.
    texts = (text, text[:1].lower() + text[1:], text.partition(": ")[2])
    return any(fits(one, pieces) for one in texts for pieces in wordings())


@pytest.mark.parametrize("name", sorted(set(WORDS) - set(OF_ONE_FILE)))
def test_the_words_of_a_picture_are_those_of_the_product(name: str) -> None:
    """A message that was changed leaves a picture behind: change its words in findings.json."""
    for text in (WORDS[name]["what"], WORDS[name].get("fix", "")):
        assert not text or wording(text) or (name, text.partition("\n")[0]) in OF_OTHERS, text


STAGES = {"config-json-stage-missing": ("prod",), "config-json-stage-name": ("pr-7",)}


@pytest.mark.parametrize("name", OF_ONE_FILE)
def test_the_product_says_this_of_the_example(name: str, tmp_path: Path) -> None:
    """For the rules that need nothing but the file of the example."""
    words = WORDS[name]
    write(tmp_path, {".chalice/config.json": RULES[name].before, "app.py": ""})
    found: list[Finding] = []
    if name == "config":
        # The example leaves out the first line of the file.
        write(tmp_path, {"chalice-ci.yml": f"version: 1\n{RULES[name].before}\n"})
        write(tmp_path, {".chalice/config.json": '{"app_name": "orders"}'})
        with pytest.raises(UserError) as told:
            read_project_config(tmp_path)
        place = f"{words['file']}:{words['line'] + 1}:{words['column']}"
        assert f"{place}: {words['what']}" in str(told.value)
        return
    config, problems = read_chalice_config(tmp_path, repo_root=tmp_path)
    found += problems
    if config is not None:
        found += check_chalice_config(
            config,
            app=AppConfig(name="orders", path="."),
            stages_wanted=STAGES.get(name, ("dev",)),
            loaded_app_name=None,
            loaded_functions=("api_handler", "worker"),
            loaded_rules=(),
            preview_like=None,
            chalice_version="1.34.0",
        )
    first = next(one for one in found if one.rule == name)
    assert first.at is not None
    assert {key: value for key, value in words.items() if key != "stage"} == {
        "what": first.what,
        **({"fix": first.fix} if first.fix else {}),
        "file": first.at.file,
        "line": first.at.line,
        "column": first.at.column,
    }


WHOLE_RUNS = ("role-missing", "role-of-another-account", "wheels-missing")


def test_the_doctor_says_this_of_a_wrong_set_up(tmp_path: Path) -> None:
    """Of each of its rules, in the words of one of the set-ups that it is tested with."""
    said: dict[str, set[tuple[str, str]]] = {}
    for number, (_, change) in enumerate(WRONG.values()):
        it = SetUp()
        change(it)
        folder = tmp_path / str(number)
        folder.mkdir()
        for found in audit(it, folder):
            said.setdefault(found.rule, set()).add((found.what, found.fix))
    rules = {rule.name for rule in DOCTOR} - {*WHOLE_RUNS}
    assert said.keys() >= rules
    other = {
        name: WORDS[name]
        for name in rules
        if (WORDS[name]["what"], WORDS[name].get("fix", "")) not in said[name]
    }
    assert other.keys() <= {
        "workflow-unpinned-action",
        "workflow-without-permissions",
        "trust-open",
    }


def test_words_of_nobody_would_be_found() -> None:
    assert not wording("WEBSOCKETS was taken without asking.")
    assert wording("WEBSOCKETS is used without opting in.")


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_picture_is_well_formed_and_nothing_of_it_is_cut_off(name: str) -> None:
    root = ElementTree.fromstring((PICTURES / f"findings/{name}.svg").read_text(encoding="utf-8"))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    texts = list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert len(texts) > 5
    for text in texts:
        assert float(text.get("x", 0)) + float(text.get("textLength", 8)) < width, text.text
        assert float(text.get("y", 0)) < height
    said = " ".join(text.text or "" for text in texts)
    assert name in said
    line = WORDS[name].get("line")
    assert line is None or line <= len(RULES[name].before.splitlines())
