"""What to say about an app that could not be loaded: the line, the likely cause, what to do.

Pure: what the loader answered, the source text and what is known of the stage go in. The kind of a
failure decides the words; where the text or the requirements tell more, the finding says that too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

from chalice_ci import rules
from chalice_ci.config import AppConfig
from chalice_ci.findings import Finding, Place
from chalice_ci.graph import LoadFailure
from chalice_ci.source import Source

_ERRORS = ("Error", "Exception", "Exit", "Interrupt", "Warning", "NotFound", "Failure")
_MAX_NAMES = 12
_DEPENDENCY_RULE = "load-dependency"

_FIXES = {
    "syntax-error": "Correct the line, or set the app's Python in chalice-ci.yml (`python:`).",
    "system-exit": "Raise an error where the value is used instead of ending the process.",
    "wrong-type": "Bind `app` in app.py to the Chalice object.",
    "credentials": (
        "Make the call when its value is first needed, in a function with `@functools.cache`: an "
        "app that is being loaded never has credentials."
    ),
    "region": (
        "Set `region` for the stage in chalice-ci.yml, or name the region where the client is made."
    ),
    "filesystem": "Read what is packaged with the app, and write nothing at import.",
    "timeout": "Move the loop or the wait out of the import, into the handler that needs it.",
    "cpu": "Move the computation out of the import, into the handler that needs it.",
    "killed": "Look at the app's output for a crash, and import less at the top level.",
    "memory": "Load what is large when it is first needed.",
    "configuration": "Correct .chalice/config.json.",
    "chalice": "Correct what Chalice names; its configuration is .chalice/config.json.",
    "too-large": "Generate fewer routes and functions.",
    "forged": "Remove the code that writes to other descriptors or replaces parts of Chalice.",
}

_DISTRIBUTIONS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "flask_restful": "Flask-RESTful",
    "git": "GitPython",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "MySQLdb": "mysqlclient",
    "PIL": "Pillow",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "telegram": "python-telegram-bot",
    "yaml": "PyYAML",
}
"""Modules whose distribution has another name, as the package index has them."""

_PYTHON_2 = frozenset(
    {
        *("__builtin__", "BaseHTTPServer", "ConfigParser", "cPickle", "cStringIO", "HTMLParser"),
        *("httplib", "Queue", "SocketServer", "StringIO", "Tkinter", "urllib2", "urlparse"),
    }
)
_GONE = {
    **dict.fromkeys(("asynchat", "asyncore", "distutils", "imp", "smtpd"), ("3.12", "3.11")),
    **dict.fromkeys(
        ("audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "mailcap", "nntplib", "pipes"),
        ("3.13", "3.12"),
    ),
    **dict.fromkeys(("sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"), ("3.13", "3.12")),
}
"""Modules of the standard library: the Python that no longer has them, and the last that did."""


def load_failure(
    failure: LoadFailure,
    *,
    app: AppConfig,
    stage: str,
    source: Source | None = None,
    variables: Collection[str] = (),
    known: Iterable[Finding] = (),
) -> Finding:
    """The finding that a failed load is.

    `variables` are the names of the environment variables that the stage sets, `known` what is
    found already: among it the dependencies that are missing or of another version.
    """
    rule = f"load-{failure.kind}"
    if rule not in rules.RULES:
        rule = "load-failed"
    title = rules.RULES[rule].title
    message = failure.message.strip()
    # Exceptions have a class; what the loader says itself is a sentence.
    error = f"{failure.type}: {message}" if failure.type.endswith(_ERRORS) else message
    words = _Words(failure, app, source, frozenset(variables), tuple(known))
    return rules.finding(
        rule,
        app=app.name,
        stage=stage,
        subject=failure.subject or failure.type,
        # Nothing says which line it was: then it is the module that was being imported.
        at=failure.at or Place(file=(PurePosixPath(app.path) / "app.py").as_posix()),
        what=f"{title}: {error.strip(': ')}" if error.strip(": ") else f"{title}.",
        fix=words.fix(),
        detail="\n".join(words.details()),
    )


class _Words:
    """The advice for one failure."""

    def __init__(
        self,
        failure: LoadFailure,
        app: AppConfig,
        source: Source | None,
        variables: frozenset[str],
        known: tuple[Finding, ...],
    ) -> None:
        self._failure = failure
        self._app = app
        self._known = tuple(one for one in known if one.rule == _DEPENDENCY_RULE and one.subject)
        self._unset = _unset(failure, source, variables)

    def fix(self) -> str:
        match self._failure.kind:
            case "import-error":
                return self._import_fix()
            case "environment":
                return (
                    f"Set {_code(self._failure.subject) or 'the variable'} in "
                    "`environment_variables` of the stage in .chalice/config.json (or from a "
                    "secret, in chalice-ci.yml), or read it with `os.environ.get`."
                )
            case "exception":
                return self._exception_fix()
            case "missing-app":
                called = re.search(r"is called `(\w+)`", self._failure.message)
                name = called[1] if called else "Chalice(app_name='…')"
                return f"Write `app = {name}` at the top level of app.py: Chalice looks for `app`."
            case "network":
                return (
                    "Make the call when its value is first needed, in a function with "
                    "`@functools.cache`; or let this app use the network while it is loaded, in "
                    f"chalice-ci.yml:\n{self._override('load: {network: true}')}"
                )
            case kind:
                return _FIXES.get(kind, "")

    def details(self) -> Iterator[str]:
        if len(self._failure.frames) > 1:
            yield "The way there:"
            for frame in self._failure.frames:
                yield f"  {frame.at}{f' in {frame.function}' if frame.function else ''}"
        if self._unset and self._failure.kind in ("environment", "exception"):
            either = " either" if self._failure.kind == "environment" else ""
            yield f"This file reads variables that the stage does not set{either}: " + (
                f"{_listed(self._unset)}."
            )
        broken = self._failure.kind in ("import-error", "exception") and not self._is_circular
        if self._known and broken:
            yield (
                "While the app is loaded, these are missing or not of the version that "
                f"requirements.txt asks for: {_listed(one.subject for one in self._known)}. "
                "That may be the cause."
            )

    @property
    def _is_circular(self) -> bool:
        return "partially initialized module" in self._failure.message

    def _import_fix(self) -> str:
        failure, module = self._failure, self._failure.subject
        if self._is_circular:
            return (
                "Move what both modules need into a third one, in chalicelib/: while a module is "
                "being imported, what it imports cannot import from it."
            )
        if module == "chalicelib":
            return (
                "Commit the module: chalicelib/ of this checkout does not have it (does .gitignore "
                "name it, is it spelt in other letters?); or run the build step that makes it "
                "first."
            )
        if failure.type != "ModuleNotFoundError" and module in sys.stdlib_module_names:
            return (
                f"Update what imports it: this Python's {_code(module)} no longer has the name. "
                "Or ask for an older Python with `python` in chalice-ci.yml."
            )
        if failure.type != "ModuleNotFoundError":
            return (
                "Pin versions that fit together in requirements.txt: the one that is installed "
                "does not have this name."
                if module
                else "Correct the import, or pin versions in requirements.txt that fit together."
            )
        if module == "pkg_resources":
            return (
                "Update the dependency that imports it, or add `setuptools<81` to "
                "requirements.txt: newer ones do not have it, and Lambda need not bring one."
            )
        if module in _PYTHON_2:
            return f"Port the app to Python 3: {_code(module)} is a module of Python 2."
        if module in _GONE:
            gone, last = _GONE[module]
            setting = f'python: "{last}"'
            return (
                f"Update what imports it: Python {gone} no longer has {_code(module)}. "
                f"Or ask for an older Python, in chalice-ci.yml:\n{self._override(setting)}"
            )
        name = _code(_DISTRIBUTIONS.get(module, ""))
        return (
            f"Add {name or 'the distribution that has it'} to requirements.txt, or move the app's "
            "own modules into chalicelib/: nothing else beside app.py is packaged."
        )

    def _exception_fix(self) -> str:
        if self._failure.type == "FileNotFoundError":
            return (
                "Commit the file, or run the build step that makes it before this one; in Lambda "
                "there is only what lies in chalicelib/ and vendor/."
            )
        general = (
            "correct the line, or move what depends on AWS, secrets or other machines into the "
            "function that needs it."
        )
        if self._unset:
            return (
                "Set the variable that the line needs in `environment_variables` of the stage in "
                f".chalice/config.json (or from a secret, in chalice-ci.yml); else {general}"
            )
        return general[:1].upper() + general[1:]

    def _override(self, setting: str) -> str:
        return f"apps:\n  {self._app.name}: {{path: {_yaml(self._app.path)}, {setting}}}"


def _unset(
    failure: LoadFailure, source: Source | None, variables: frozenset[str]
) -> tuple[str, ...]:
    """The variables that the code on the way reads, without a default, and nobody sets."""
    if source is None or failure.at is None:
        return ()
    read = source.variables_read(failure.at.file)
    return tuple(
        dict.fromkeys(
            name
            for name in read
            if name not in variables and name != failure.subject and not _is_given(name)
        )
    )


def _is_given(name: str) -> bool:
    """Whether Lambda or the machine sets the variable."""
    return name.startswith(("AWS_", "LAMBDA_", "_")) or name in ("HOME", "LANG", "PATH", "TZ")


def _listed(names: Iterable[str]) -> str:
    known = sorted(set(names))
    shown = ", ".join(known[:_MAX_NAMES])
    more = len(known) - _MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _code(name: str) -> str:
    return f"`{name}`" if name else ""


def _yaml(path: str) -> str:
    return path if re.fullmatch(r"[A-Za-z0-9_./-]+", path) else json.dumps(path)
