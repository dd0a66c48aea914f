"""The app's source text: read and parsed, never imported.

What stands in the text is advice only: whether a feature is used is decided by the loaded app. The
text tells where its object is made, where flags are written, and what a stage does not load.
"""

from __future__ import annotations

import ast
import functools
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chalice_ci.findings import Place

MAX_FILES = 500
MAX_FILE_BYTES = 1 << 20
_FLAGS = "experimental_feature_flags"
_HOPS = 5


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Where the app's object gets its name: a line may be added after `at.line`."""

    name: str
    at: Place
    text: str
    """The first line of the statement that binds it."""


@dataclass(frozen=True, kw_only=True)
class FlagWrite:
    """A statement that writes the experimental feature flags."""

    at: Place
    text: str
    receiver: str
    """The expression before `.experimental_feature_flags`."""
    literal: str | None
    """The string, when a bare string is written instead of a list of names."""
    names: tuple[str, ...]
    """The string constants of the statement."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place in the text where one of the attributes looked for is used."""

    name: str
    at: Place


@dataclass(frozen=True, kw_only=True)
class Source:
    """The texts of `app.py` and `chalicelib`, by their path in the repository."""

    files: Mapping[str, str]
    app_path: str = "."

    def path(self, inside: str) -> str:
        """The path in the repository of a path in the app's folder."""
        return (PurePosixPath(self.app_path) / inside).as_posix()

    def binding(self) -> Binding | None:
        """Where the deployed object, `app` in app.py, is made; followed through imports."""
        return self._binding(self.path("app.py"), "app", _HOPS)

    def flag_writes(self) -> tuple[FlagWrite, ...]:
        """Every statement that writes experimental feature flags."""
        found = []
        for file, tree in self.trees.items():
            for node in ast.walk(tree):
                write = self._flag_write(file, node)
                if write is not None:
                    found.append(write)
        return tuple(sorted(found, key=lambda write: write.at))

    def marks(self, names: tuple[str, ...]) -> tuple[Mark, ...]:
        """Every use of an attribute with one of these names (`app.on_ws_message`)."""
        found = [
            Mark(name=node.attr, at=Place(file=file, line=node.lineno))
            for file, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in names
        ]
        return tuple(sorted(found, key=lambda mark: mark.at))

    def constants(self, text: str) -> tuple[Place, ...]:
        """Every place of a string constant that equals `text`; comments are not among them."""
        found = [
            Place(file=file, line=node.lineno)
            for file, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value == text
        ]
        return tuple(sorted(found))

    def variables_read(self, file: str) -> tuple[str, ...]:
        """The environment variables that a file reads by their names, without a default."""
        tree = self.trees.get(file)
        if tree is None:
            return ()
        found = (_variable_read(node) for node in ast.walk(tree))
        return tuple(sorted({name for name in found if name}))

    def line(self, at: Place) -> str | None:
        """The text of a place's line, when it is in one of the files."""
        text = self.files.get(at.file)
        if text is None or at.line is None:
            return None
        lines = text.splitlines()
        return lines[at.line - 1] if 0 < at.line <= len(lines) else None

    @functools.cached_property
    def trees(self) -> Mapping[str, ast.Module]:
        """The parsed files, without those that this Python cannot parse."""
        parsed = {file: _parse(self.files[file]) for file in sorted(self.files)}
        return {file: tree for file, tree in parsed.items() if tree is not None}

    def _binding(self, file: str, name: str, hops: int) -> Binding | None:
        tree = self.trees.get(file)
        if tree is None or hops == 0:
            return None
        last: tuple[ast.stmt, ast.stmt] | None = None
        for top in tree.body:
            for statement in _at_module_level(top):
                if name in _names_bound(statement):
                    last = (top, statement)
        if last is None:
            return None
        top, statement = last
        elsewhere = self._elsewhere(file, name, statement, hops)
        if elsewhere is not None:
            return elsewhere
        place = Place(file=file, line=top.end_lineno or top.lineno)
        text = (self.line(Place(file=file, line=statement.lineno)) or "").strip()
        return Binding(name=name, at=place, text=text)

    def _elsewhere(self, file: str, name: str, statement: ast.stmt, hops: int) -> Binding | None:
        match statement:
            case ast.Assign(value=ast.Name(id=other)) | ast.AnnAssign(value=ast.Name(id=other)):
                return self._binding(file, other, hops - 1) if other != name else None
            case ast.ImportFrom(module=module, level=level):
                original = next(
                    alias.name for alias in statement.names if (alias.asname or alias.name) == name
                )
                for candidate in self._module_files(file, module or "", level):
                    if candidate in self.files:
                        return self._binding(candidate, original, hops - 1)
        return None

    def _module_files(self, file: str, module: str, level: int) -> tuple[str, ...]:
        base = PurePosixPath(self.app_path)
        if level:
            base = PurePosixPath(file).parent
            for _ in range(level - 1):
                base = base.parent
        path = base.joinpath(*module.split(".")) if module else base
        return (f"{path.as_posix()}.py", (path / "__init__.py").as_posix())

    def _flag_write(self, file: str, node: ast.AST) -> FlagWrite | None:
        match node:
            case ast.Assign(targets=[ast.Attribute(attr=attr) as target], value=value):
                pass
            case ast.AugAssign(target=ast.Attribute(attr=attr) as target, value=value):
                pass
            case ast.Call(
                func=ast.Attribute(attr="update" | "add", value=ast.Attribute(attr=attr) as target),
                args=[value, *_],
            ):
                pass
            case _:
                return None
        if attr != _FLAGS:
            return None
        adds_one_name = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "add"
        )
        bare = value.value if isinstance(value, ast.Constant) else None
        at = Place(file=file, line=node.lineno)
        return FlagWrite(
            at=at,
            text=(self.line(at) or "").strip(),
            receiver=_dotted(target.value),
            literal=bare if isinstance(bare, str) and not adds_one_name else None,
            names=tuple(
                part.value
                for part in ast.walk(value)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ),
        )


def read_source(root: Path, app_path: str) -> Source:
    """Read `app.py` and `chalicelib/**/*.py` of the app at `root / app_path`.

    Bounded in number and size; links, devices and what cannot be decoded are left out, so that a
    link named app.py shows nobody a file of this machine.
    """
    files: dict[str, str] = {}
    folder = root / app_path
    for inside in _python_files(folder):
        if len(files) >= MAX_FILES:
            break
        text = read_text(folder / inside)
        if text is not None:
            files[(PurePosixPath(app_path) / inside).as_posix()] = text
    return Source(files=files, app_path=app_path)


def _python_files(folder: Path) -> Iterator[str]:
    yield "app.py"
    library = folder / "chalicelib"
    if library.is_symlink():
        return
    # os.walk does not follow links to folders.
    for where, folders, names in os.walk(library):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            if name.endswith(".py"):
                yield (Path(where) / name).relative_to(folder).as_posix()


def read_text(path: Path) -> str | None:
    """The text of a file; None for what is none, is too large or is not UTF-8, and for links."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _parse(text: str) -> ast.Module | None:
    """The tree, or None for what this Python cannot parse: that is the loader's to report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _at_module_level(top: ast.stmt) -> Iterator[ast.stmt]:
    """The statement and those nested in it that run at import, in order: no bodies of functions."""
    waiting: list[ast.AST] = [top]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = [
                child
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
            ]
            waiting.extend(reversed(inner))


def _dotted(node: ast.expr) -> str:
    """The dotted name that an expression is, else "app"."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < _HOPS:
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else "app"


def _variable_read(node: ast.AST) -> str | None:
    """X in `os.environ['X']`, `os.environ.get('X')` and `os.getenv('X')`."""
    match node:
        case ast.Subscript(
            value=ast.Attribute(attr="environ") | ast.Name(id="environ"),
            slice=ast.Constant(value=str(name)),
            ctx=ast.Load(),
        ):
            return name
        case ast.Call(
            func=ast.Attribute(
                attr="get", value=ast.Attribute(attr="environ") | ast.Name(id="environ")
            )
            | ast.Attribute(attr="getenv")
            | ast.Name(id="getenv"),
            args=[ast.Constant(value=str(name))],
            keywords=[],
        ):
            return name
        case _:
            return None


def _names_bound(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.Assign(targets=targets):
            return {
                node.id
                for target in targets
                for node in ast.walk(target)
                if isinstance(node, ast.Name)
            }
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            return {name}
        case ast.ImportFrom(names=names) | ast.Import(names=names):
            return {alias.asname or alias.name for alias in names}
        case _:
            return set()


def excerpts(root: Path) -> Callable[[Place], str | None]:
    """A function that gives the source line of a place, for people to see.

    A place may come from hostile code and must not be a way to show a file: only Python and YAML
    inside the repository, no hidden folders, no links. `.json` is left out because config.json
    holds plain-text secrets in real projects.
    """

    def line(at: Place) -> str | None:
        path = PurePosixPath(at.file)
        hidden = any(part.startswith(".") for part in path.parts)
        if path.is_absolute() or hidden or path.suffix not in {".py", ".yml", ".yaml"}:
            return None
        try:
            if (root / path).resolve() != root.resolve() / path:
                return None
            text = read_text(root / path)
        except (OSError, RuntimeError, ValueError):
            return None
        return None if text is None else Source(files={at.file: text}).line(at)

    return line
