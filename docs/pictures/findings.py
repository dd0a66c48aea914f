"""Draw what the terminal says of each finding, on the example that the documentation has for it.

`findings.json` holds a finding of each rule in the product's words; the product's own renderer for
terminals writes it, with the line of the example that it is about. That text is drawn as an SVG:
no browser, no font and no clock has a part in it, so the same words give the same bytes.

    python docs/pictures/findings.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from chalice_ci.findings import Finding, Place
from chalice_ci.report.report import Report, Result
from chalice_ci.report.terminal import render
from chalice_ci.rule import Group, Rule
from chalice_ci.rules import RULES, finding, picture_of

HERE = Path(__file__).parent
WORDS = HERE / "findings.json"
COLUMNS = 92
"""What the text is wrapped at; as wide as a page shows without making it smaller."""

_CHARACTER, _LINE, _SIZE, _MARGIN, _BAR = 7.8, 19, 13, 16, 30
_SGR = re.compile(r"\x1b\[([\d;]*)m")
_CLASSES = {"1;31": "error", "1;33": "warning", "1;36": "notice", "1;32": "ok", "1": "bold"}
_COMMANDS = {
    Group.WORKFLOWS: "doctor",
    Group.SETTINGS: "doctor",
    Group.PERMISSIONS: "doctor",
    Group.DIFFERENCE: "plan --stage {stage}",
}
_OTHERS = {
    "policy-missing": "policy --stage {stage} --compare deploy-role",
    "policy-denied": "policy --stage {stage} --compare deploy-role",
    "policy-unneeded": "policy --stage {stage} --compare deploy-role",
    "provenance": "state show --stage {stage} --verify",
    "uncommitted-changes": "deploy --stage {stage}",
    "rehearsal-stopped": "run",
    "wheels-missing": "doctor",
}
_STYLE = """\
.page{fill:#ffffff;stroke:#d1d9e0}.bar{fill:#f6f8fa}.dot{fill:#d1d9e0}
text{font:13px ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;fill:#1f2328;\
white-space:pre}
.dim{fill:#59636e}.bold{font-weight:700}.error,.warning,.notice,.ok{font-weight:700}
.error{fill:#d1242f}.warning{fill:#9a6700}.notice{fill:#0969da}.ok{fill:#1a7f37}
@media(prefers-color-scheme:dark){
.page{fill:#0d1117;stroke:#3d444d}.bar{fill:#161b22}.dot{fill:#3d444d}text{fill:#e6edf3}
.dim{fill:#9198a1}.error{fill:#f85149}.warning{fill:#d29922}.notice{fill:#4493f8}.ok{fill:#3fb950}
}"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is drawn: the command, and what the terminal shows after it, with its colours."""

    command: str
    text: str


def example(rule: Rule, words: Mapping[str, Any]) -> Finding:
    """The finding of a rule, in the app and the stage of all examples."""
    at = None
    if "file" in words:
        at = Place(file=words["file"], line=words.get("line"), column=words.get("column"))
    return finding(
        rule.name,
        what=words["what"],
        fix=words.get("fix", ""),
        detail=words.get("detail", ""),
        link=words.get("link", ""),
        app="orders",
        stage=words.get("stage", "dev"),
        at=at,
    )


def picture(rule: Rule, words: Mapping[str, Any]) -> Picture:
    """What a terminal shows of a rule's example."""
    found = example(rule, words)
    pattern = _OTHERS.get(rule.name) or _COMMANDS.get(rule.group, "check --stage {stage}")
    command = pattern.format(stage=found.stage)
    verb = command.partition(" ")[0]
    if verb == "doctor":
        report = Report(verb=verb, findings=(found,))
    else:
        result = Result(app="orders", stage=found.stage, findings=(found,))
        report = Report(verb=verb, results=(result,))

    def excerpt(at: Place) -> str | None:
        lines = rule.before.splitlines()
        return lines[at.line - 1] if at.line is not None and at.line <= len(lines) else None

    text = render(report, color=True, width=COLUMNS, excerpt=excerpt)
    return Picture(command=f"chalice-ci {command}", text=text)


def drawn(shown: Picture, title: str) -> str:
    """The SVG of a picture; `title` is what a reader hears who sees none."""
    lines = [f"\x1b[2m$\x1b[0m {shown.command}", *shown.text.rstrip("\n").split("\n")]
    width = round(COLUMNS * _CHARACTER) + 2 * _MARGIN
    height = _BAR + len(lines) * _LINE + 2 * _MARGIN - 6
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        f'<path class="bar" d="M1 {_BAR}V9a8 8 0 0 1 8-8h{width - 18}a8 8 0 0 1 8 8v{_BAR - 9}z"/>',
        *(f'<circle class="dot" cx="{18 + 16 * n}" cy="15.5" r="5"/>' for n in range(3)),
    ]
    for number, line in enumerate(lines):
        y = _BAR + _MARGIN + number * _LINE + _SIZE - 4
        body += [_text(x, y, kind, text) for x, kind, text in _runs(line)]
    return "\n".join((*body, "</svg>", ""))


def _text(column: int, y: int, kind: str, text: str) -> str:
    # The width is given, so that columns stay where they are in any font.
    long = f' textLength="{len(text) * _CHARACTER:g}"' if len(text) > 1 else ""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{_MARGIN + column * _CHARACTER:g}" y="{y}"{named}{long}>{escape(text)}</text>'


def _runs(line: str) -> Iterator[tuple[int, str, str]]:
    """The pieces of a line: the column, the colour and the text of each, without outer blanks."""
    column, kind, at = 0, "", 0
    for code in (*_SGR.finditer(line), None):
        text = line[at : code.start() if code else len(line)]
        if text.strip():
            lead = len(text) - len(text.lstrip())
            yield column + lead, kind, text.strip()
        column += len(text)
        if code:
            kind = "dim" if code[1] == "2" else _CLASSES.get(code[1], "")
            at = code.end()


def pictures() -> Mapping[str, str]:
    """Every picture by its path below docs/."""
    words = json.loads(WORDS.read_text(encoding="utf-8"))
    return {
        picture_of(rule): drawn(picture(rule, words[rule.name]), f"{rule.name}: {rule.title}")
        for rule in RULES.values()
    }


def main() -> None:
    """Write them all, and take away those of rules that are gone."""
    wanted = {HERE.parent / path: svg for path, svg in pictures().items()}
    for old in (HERE / "findings").glob("*.svg"):
        if old not in wanted:
            old.unlink()
    for path, svg in wanted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
