"""Draw the pictures of docs/: the product's own comment and report, as a browser shows them.

Run by hand (`make pictures`) when what they show has changed; a test says when that is. Needs
Chromium, ImageMagick and, for the graph that GitHub draws from Mermaid, npm's `mermaid` 11 in the
folder that is given as the first argument. Writes the PNG files and `drawn.json`, the SHA-256 of
what each shows.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

import cmarkgfm
from cmarkgfm.cmark import Options

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from chalice_ci.report.comment import comment  # noqa: E402
from chalice_ci.report.html import html  # noqa: E402
from support.pages import CANONICAL, ORIGIN, TROUBLED  # noqa: E402

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --page: #ffffff; --line: #d1d9e0; --code: #f0f1f3;
  --link: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --page: #0d1117; --line: #3d444d;
  --code: #262c36; --link: #4493f8; } }
body { font: 14px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--page); width: 860px; margin: 0; padding: 16px 20px; }
table { border-collapse: collapse; margin: 8px 0; } a { color: var(--link); text-decoration: none; }
th, td { border: 1px solid var(--line); padding: 5px 11px; text-align: left; }
code, pre { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; background: var(--code);
  border-radius: 5px; padding: 2px 5px; } pre { padding: 10px; } pre code { padding: 0; }
blockquote { margin: 10px 0; padding: 2px 14px; border-left: 4px solid var(--kind, var(--line)); }
blockquote p.kind { color: var(--kind); font-weight: 600; margin: 4px 0; }
.caution { --kind: #d1242f; } .warning { --kind: #bf8700; } .important { --kind: #8250df; }
.note { --kind: #0969da; } summary { cursor: pointer; } sub { font-size: 11px; vertical-align: 0; }
pre.mermaid { background: none; }
"""


def pictures() -> Mapping[str, str]:
    """The pages to be drawn, as HTML by the name of their picture."""
    body = comment(CANONICAL, origin=ORIGIN)
    parts = dict(_parts(body))
    return {
        "comment": _page(parts["head"]),
        **{f"comment-{name}": _page(text) for name, text in parts.items() if name != "head"},
        "comment-trouble": _page(
            comment(TROUBLED, origin=replace(ORIGIN, notes=(), history=(), remarks=()))
        ),
        "report": html(CANONICAL),
    }


def digest(page: str) -> str:
    """What `drawn.json` remembers of a page."""
    return hashlib.sha256(page.encode()).hexdigest()


def _parts(body: str) -> Iterator[tuple[str, str]]:
    folded = re.findall(r"<details.*?</details>", body, re.DOTALL)
    yield "head", body.partition("<details")[0]
    for text in folded:
        title = re.sub("<[^>]+>", "", text.partition("</summary>")[0])
        for name, words in (
            ("findings", "Findings"),
            ("graph", "Graph"),
            ("operations", "Operations"),
            ("package", "Package: "),
            ("upgrade", "Chalice from"),
            ("changes", "Routes"),
            ("history", "The last"),
        ):
            if words in title:
                yield name, text
                break


def _page(markdown: str) -> str:
    body = cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE)
    body = re.sub(r"<details[^>]*>", "<details open>", body)
    body = re.sub(
        r"<blockquote>\s*<p>\[!([A-Z]+)\]\s*",
        lambda kind: (
            f'<blockquote class="{kind[1].lower()}"><p class="kind">{kind[1].capitalize()}</p><p>'
        ),
        body,
    )
    body = body.replace('<pre lang="mermaid"><code>', '<pre class="mermaid">')
    body = re.sub(r'(<pre class="mermaid">.*?)</code>', r"\1", body, flags=re.DOTALL)
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{body}"


def main(mermaid: str) -> None:
    """Draw them all, the head and the report also in the dark."""
    script = Path(mermaid, "node_modules/mermaid/dist/mermaid.min.js")
    drawn = {}
    for name, page in pictures().items():
        drawn[name] = digest(page)
        for dark in (False, True):
            _draw(name, page, dark=dark, script=script if "mermaid" in page else None)
    (HERE / "drawn.json").write_text(json.dumps(drawn, indent=2, sort_keys=True) + "\n")


def _draw(name: str, page: str, *, dark: bool, script: Path | None) -> None:
    chromium = shutil.which("chromium") or "chromium"
    theme = "dark" if dark else "light"
    if script is not None:
        kind = "dark" if dark else "default"
        page += f'<script src="{escape(str(script))}"></script>'
        page += f'<script>mermaid.initialize({{startOnLoad: true, theme: "{kind}"}})</script>'
    if dark:
        # Headless Chromium has no setting of its own for it.
        page = page.replace("(prefers-color-scheme: dark)", "all")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "page.html")
        source.write_text(page, encoding="utf-8")
        target = HERE / f"{name}-{theme}.png"
        subprocess.run(
            [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--disable-quic", "--no-first-run", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--virtual-time-budget=5000"),
                *(f"--user-data-dir={folder}/profile", "--allow-file-access-from-files"),
                # As high as the highest: the rest is trimmed.
                f"--window-size={1180 if name == 'report' else 920},6000",
                *(f"--screenshot={target}", source.as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        subprocess.run(
            [
                *("mogrify", "-trim", "-bordercolor", "#0d1117" if dark else "white"),
                *("-border", "12", "-colors", "128", "-strip", str(target)),
            ],
            check=True,
            timeout=60,
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
