"""Build the documentation as a site: `make site`, offline, from what the repository has.

The documents are written for the repository, with links between its files. They are copied to
where the site has them, with their links moved along: a document becomes a page, any other file
that is linked to is taken along. Zensical then builds it, strictly. At last every link of every
page is followed, and nothing may be fetched from elsewhere: the site works without a network.

    python docs/build_site.py ZENSICAL FOLDER
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
PLUGINS = "Other CI systems"
NAVIGATION: Mapping[str, tuple[str, ...]] = {
    "Start": ("README.md", "docs/init.md", "docs/migrating.md", "docs/local.md"),
    "Workflows": (
        *("docs/workflows.md", "workflows-examples/README.md", "docs/github.md", "docs/events.md"),
        *("docs/previews.md", "docs/image.md"),
    ),
    "Deploying": (
        *("docs/deploying.md", "docs/state.md", "docs/aws-access.md", "docs/policy.md"),
        *("docs/doctor.md", "docs/secrets.md"),
    ),
    PLUGINS: (
        *("docs/systems.md", "docs/gitlab.md", "docs/circleci.md", "docs/jenkins.md"),
        *("docs/bitbucket.md", "docs/azure.md", "docs/codebuild.md", "docs/buildkite.md"),
        "docs/docker.md",
    ),
    "Reading": ("docs/comment.md", "docs/report.md", "docs/diff.md"),
    "Reference": (
        *("docs/inputs.md", "docs/configuration.md", "docs/findings.md", "docs/upgrades.md"),
        *("docs/packaging.md", "CHANGELOG.md"),
    ),
    "Inside": (
        *("docs/architecture.md", "docs/isolation.md", "docs/performance.md", "SECURITY.md"),
        "CONTRIBUTING.md",
    ),
}
"""Every page by its document, in the order of the site. What is named nowhere is about one of the
other CI systems, each of which has pages in `docs/` or `plugins/`.
"""

_FENCE = re.compile(r"^( *)(```+).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?P<head>\]\()(?P<target>[^)\s]+)(?P<tail>\))")
_CONFIGURATION = """\
[project]
site_name = "chalice-ci"
site_description = "Check, plan, preview and deploy AWS Chalice apps from CI."
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
nav = {nav}

[project.theme]
language = "en"
# Letters of the reader's own machine: nothing is fetched.
font = false
features = ["navigation.sections", "navigation.top", "search.highlight", "content.code.copy"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
"""


class SiteBroken(Exception):
    """What is wrong with the site, a line for each problem."""


def documents() -> tuple[str, ...]:
    """The documents that have to be pages."""
    folders = (
        ("", "*.md"),
        ("docs", "*.md"),
        ("workflows-examples", "*.md"),
        ("plugins", "**/*.md"),
    )
    found = {path for folder, pattern in folders for path in (ROOT / folder).glob(pattern)}
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found))


def page_of(document: str) -> str:
    """Where the site has a document."""
    if document == "README.md":
        return "index.md"
    path = PurePosixPath(document.removeprefix("docs/"))
    if path.name == "README.md":
        return f"{path.parent}.md"
    return str(path)


def navigation() -> Mapping[str, tuple[str, ...]]:
    """The pages by their sections, each with its document; raises SiteBroken for one without."""
    plugins = tuple(name for name in documents() if name.startswith("plugins/"))
    sections = {**NAVIGATION, PLUGINS: (*NAVIGATION[PLUGINS], *plugins)}
    listed = [name for names in sections.values() for name in names]
    missing = sorted(set(documents()) ^ set(listed))
    if missing or len(listed) != len(set(listed)):
        raise SiteBroken(f"NAVIGATION and the documents differ: {', '.join(missing)}")
    return {title: names for title, names in sections.items() if names}


def write_pages(pages: Path) -> None:
    """Copy the documents and what they link to; raises SiteBroken for links that lead nowhere."""
    taken: set[str] = set()
    problems: list[str] = []
    for document in documents():
        target = pages / page_of(document)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / document).read_text(encoding="utf-8")
        target.write_text(_moved(text, document, taken, problems), encoding="utf-8")
    if problems:
        raise SiteBroken("\n".join(problems))
    for name in sorted(taken):
        copy = pages / _copy_of(name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)


def _moved(text: str, document: str, taken: set[str], problems: list[str]) -> str:
    """The text with its links as the site has them; blocks of code stay as they are."""

    def link(found: re.Match[str]) -> str:
        target, anchor = found["target"].partition("#")[::2]
        if urlsplit(target).scheme or not target:
            return found[0]
        name = os.path.normpath(PurePosixPath(document).parent / target)
        if (ROOT / name).is_dir():
            name = f"{name}/README.md"
        if not (ROOT / name).is_file():
            problems.append(f"{document}: {target} is no file of the repository")
            return found[0]
        if name.endswith(".md"):
            place = page_of(name)
        else:
            taken.add(name)
            place = _copy_of(name)
        moved = os.path.relpath(place, PurePosixPath(page_of(document)).parent)
        return f"{found['head']}{moved}{'#' if anchor else ''}{anchor}{found['tail']}"

    parts, at = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(link, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join((*parts, _LINK.sub(link, text[at:])))


def _copy_of(name: str) -> str:
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    # Files and folders with a dot in front are no part of a site.
    return "/".join(("files", *(part.lstrip(".") for part in PurePosixPath(name).parts)))


class _Page(HTMLParser):
    """What a page links to, what it loads and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {""}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "href" in given and tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given["href"])
        if "src" in given:
            self.loads.append(given["src"])


def problems_of(site: Path) -> Iterator[str]:
    """Links that lead nowhere, and what would be fetched from elsewhere."""
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        # A server shows it in place of any page, so its links begin at the site's root.
        base = site if name == "404.html" else path.parent
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{name}: loads {link}"
                continue
            place = unquote(parts.path)
            target = path
            if place:
                target = site / place.lstrip("/") if place.startswith("/") else base / place
                target = Path(os.path.normpath(target))
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                yield f"{name}: there is no {link}"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: {link} has no such anchor"
    for path in sorted(site.rglob("*.css")):
        fetched = re.findall(r"(?:@import|url\()\s*[\"']?(https?:[^\"')]+)", path.read_text())
        yield from (f"{path.relative_to(site)}: loads {address}" for address in fetched)


def build(zensical: str, folder: Path) -> int:
    """Build below `folder`; how many pages there are. Raises SiteBroken."""
    shutil.rmtree(folder / "pages", ignore_errors=True)
    shutil.rmtree(folder / "site", ignore_errors=True)
    nav = [
        {title: [page_of(document) for document in names]} for title, names in navigation().items()
    ]
    write_pages(folder / "pages")
    toml = json.dumps(nav).replace('": ', '" = ')
    configuration = folder / "zensical.toml"
    configuration.write_text(_CONFIGURATION.format(nav=toml), encoding="utf-8")
    done = subprocess.run(
        [zensical, "build", "--strict", "--clean", "--config-file", str(configuration)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "NO_COLOR": "1"},
    )
    if done.returncode != 0:
        raise SiteBroken(done.stdout + done.stderr)
    problems = tuple(problems_of(folder / "site"))
    if problems:
        raise SiteBroken("\n".join(problems))
    return len(documents())


def main(zensical: str, folder: str) -> int:
    """Build it and tell where it is."""
    place = Path(folder).resolve()
    place.mkdir(parents=True, exist_ok=True)
    try:
        pages = build(zensical, place)
    except SiteBroken as problem:
        print(f"The site is not built:\n{problem}", file=sys.stderr)
        return 1
    print(f"{pages} pages: {place / 'site' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
