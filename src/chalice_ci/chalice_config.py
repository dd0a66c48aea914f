"""`.chalice/config.json`: read with the place of every key, looked up as Chalice does, and checked.

Chalice itself notices next to nothing: unknown keys, stages and functions, wrong types and names
that AWS refuses all pass. What it accepts and merely ignores is a warning here; what it would
silently do wrong, or fail at halfway, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from chalice_ci import rules
from chalice_ci.aws_names import WIDEST_PREVIEW, AWSName, aws_names
from chalice_ci.config import (
    NAME_PATTERN,
    PREVIEW_NAMES,
    RESERVED_NAMES,
    AppConfig,
)
from chalice_ci.config_keys import (
    BY_NAME,
    DEFAULTS,
    MERGED,
    ConfigKey,
    Fault,
    Level,
    Objection,
    kind_of,
)
from chalice_ci.discovery import CONFIG_JSON, MAX_CONFIG_JSON
from chalice_ci.findings import Finding, Place, Severity
from chalice_ci.json_source import read_json
from chalice_ci.positions import (
    Entry,
    MapNode,
    Node,
    Problem,
    ScalarNode,
    decode,
    did_you_mean,
    plain_data,
    read_bytes,
    shown,
    walk,
)

MAX_FINDINGS = 200


@dataclass(frozen=True, kw_only=True)
class ChaliceConfig:
    """An app's config.json. `data` is what Chalice reads, `places` maps "stages.dev.tags" to keys.

    `stages` are the names in the file, in its order; `app_name` is None when it is no text.
    """

    app_name: str | None
    data: Mapping[str, object]
    stages: tuple[str, ...]
    file: str
    places: Mapping[str, Place]
    tree: MapNode

    def lookup(self, stage: str, key: str, function: str | None = None) -> object:
        """The value that holds, in Chalice's order: the stage's function, the stage, the function
        for every stage, the top, Chalice's default. None when there is none.

        Variables and tags are merged instead. For a preview `stage` is the stage that it is like.
        """
        declared = BY_NAME.get(key)
        if declared is not None and declared.levels == MERGED:
            return self._merged(stage, key, function)
        in_stage = _child(_child(self.data, "stages"), stage)
        sources: list[Mapping[str, object]] = [self.data]
        if declared is None or Level.STAGE in declared.levels:
            sources.insert(0, in_stage)
        if function is not None and declared is not None:
            if Level.TOP_FUNCTION in declared.levels:
                sources.insert(1, _child(_child(self.data, "lambda_functions"), function))
            if Level.FUNCTION in declared.levels:
                sources.insert(0, _child(_child(in_stage, "lambda_functions"), function))
        for source in sources:
            value = source.get(key)
            if value is not None:
                return value
        return DEFAULTS.get(key)

    def automatic_layer(self, stage: str) -> bool:
        """The dependencies go into a layer."""
        return bool(self.lookup(stage, "automatic_layer"))

    def architecture(self, stage: str, chalice: str | None = None) -> Literal["x86_64", "arm64"]:
        """The processor of the functions; a Chalice that does not know the key ignores it."""
        if not _knows(chalice, BY_NAME["lambda_architecture"]):
            return "x86_64"
        return "arm64" if self.lookup(stage, "lambda_architecture") == "arm64" else "x86_64"

    def environment_variables(self, stage: str, function: str | None = None) -> dict[str, str]:
        """The variables of a stage, merged as Chalice does; with a function, its own included."""
        merged = self._merged(stage, "environment_variables", function)
        return {name: value for name, value in merged.items() if isinstance(value, str)}

    def _merged(self, stage: str, key: str, function: str | None) -> dict[str, object]:
        in_stage = _child(_child(self.data, "stages"), stage)
        merged = {**_child(self.data, key), **_child(in_stage, key)}
        if function is not None:
            merged.update(_child(_child(_child(in_stage, "lambda_functions"), function), key))
        return merged


def _child(mapping: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = mapping.get(key)
    return value if isinstance(value, dict) else {}


def _knows(chalice: str | None, key: ConfigKey) -> bool:
    if chalice is None or not key.since:
        return True
    return _release(chalice) >= _release(key.since)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part[:9]) for part in re.findall(r"[0-9]+", version)[:3])


# --- reading --------------------------------------------------------------------------------------


def read_chalice_config(
    app_dir: Path, *, repo_root: Path
) -> tuple[ChaliceConfig | None, tuple[Finding, ...]]:
    """The app's config.json and what is wrong with it as a file.

    None when it is not there or cannot be read at all; duplicate keys are errors, and the last one
    counts, as in Chalice.
    """
    path = app_dir / CONFIG_JSON
    file = _relative(path, repo_root)
    try:
        raw = read_bytes(
            path, beneath=repo_root, limit=MAX_CONFIG_JSON, place=Place(file=file, line=1, column=1)
        )
    except FileNotFoundError:
        from chalice_ci.missing_config import explain_missing

        return None, (explain_missing(app_dir, repo_root, file),)
    text = raw if isinstance(raw, Problem) else decode(raw, file)
    if isinstance(text, Problem):
        return None, (_finding_of(text),)
    node, problems = read_json(text, file)
    findings = tuple(_finding_of(problem) for problem in problems[:MAX_FINDINGS])
    if node is None:
        return None, findings
    if not isinstance(node, MapNode):
        wrong = rules.finding(
            "config-json-type",
            what=f"The file must be an object, not {kind_of(node)}.",
            fix='Write `{"version": "2.0", "app_name": "…", "stages": {"dev": {}}}`.',
            at=node.at,
        )
        return None, (*findings, wrong)
    return _config(node, file), findings


def _config(tree: MapNode, file: str) -> ChaliceConfig:
    data = plain_data(tree)
    stages = tree.entry("stages")
    name = tree.entry("app_name")
    value = name.value.value if name and isinstance(name.value, ScalarNode) else None
    return ChaliceConfig(
        app_name=value if isinstance(value, str) else None,
        data=MappingProxyType(data if isinstance(data, dict) else {}),
        stages=tuple(entry.key for entry in stages.value.entries if not _strayed(entry))
        if stages is not None and isinstance(stages.value, MapNode)
        else (),
        file=file,
        places=MappingProxyType(dict(walk(tree))),
        tree=tree,
    )


def _strayed(entry: Entry) -> bool:
    """Whether this in `stages` is no stage but a key of the file that slipped into it."""
    return entry.key in ("version", "app_name") and not isinstance(entry.value, MapNode)


def _relative(path: Path, root: Path) -> str:
    absolute, base = path.absolute(), root.absolute()
    if absolute.is_relative_to(base):
        return absolute.relative_to(base).as_posix()
    return path.name


def _finding_of(problem: Problem) -> Finding:
    rule = "config-json-duplicate-key" if problem.kind == "duplicate" else "config-json-syntax"
    what = problem.what[:1].upper() + problem.what[1:]
    return rules.finding(rule, what=what, fix=problem.fix, at=problem.at)


# --- checking -------------------------------------------------------------------------------------


def check_chalice_config(
    config: ChaliceConfig,
    *,
    app: AppConfig,
    stages_wanted: tuple[str, ...],
    loaded_app_name: str | None = None,
    loaded_functions: tuple[str, ...] | None = None,
    loaded_rules: tuple[str, ...] = (),
    preview_like: str | None = None,
    chalice_version: str | None = None,
) -> Iterator[Finding]:
    """Everything to say about an app's config.json; call it once for all stages of an app.

    `stages_wanted` are the stages at hand (previews included), `preview_like` the stage that
    previews take their settings from, if there are any. The rest is known once the app was loaded:
    its name, and its functions and event rules as the graph names them (over all wanted stages).
    """
    checker = _Checker(config, app, chalice_version or app.chalice)
    counts = dict.fromkeys(Severity, 0)
    for finding in chain(
        checker.version(),
        checker.keys(),
        checker.app_name(loaded_app_name),
        checker.stages(stages_wanted, preview_like),
        checker.functions(stages_wanted, loaded_functions),
        checker.names(stages_wanted, loaded_functions or (), loaded_rules, preview_like),
    ):
        counts[finding.severity] += 1
        # Of each kind: warnings must not hide the errors behind them.
        if counts[finding.severity] <= MAX_FINDINGS:
            yield finding


@dataclass(frozen=True)
class _Checker:
    config: ChaliceConfig
    app: AppConfig
    chalice: str | None
    hints: Iterator[int] = field(default_factory=count)
    """Counts the names compared: comparing takes long, and only the first findings are shown."""

    def _hint(self, name: str, known: Iterable[str]) -> str:
        return did_you_mean(name, known) if next(self.hints) < MAX_FINDINGS else ""

    def _finding(
        self,
        rule: str,
        what: str,
        at: Place | None,
        *,
        fix: str = "",
        severity: Severity | None = None,
        subject: str = "",
        stage: str = "",
    ) -> Finding:
        return rules.finding(
            rule,
            what=what[:1].upper() + what[1:],
            fix=fix,
            severity=severity,
            subject=subject,
            app=self.app.name,
            stage=stage,
            at=at or Place(file=self.config.file, line=1, column=1),
        )

    # the file as a whole

    def version(self) -> Iterator[Finding]:
        entry = self.config.tree.entry("version")
        if entry is None:
            return
        value = entry.value.value if isinstance(entry.value, ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            words = f'`version` must be "2.0", not {kind_of(entry.value)}.'
            yield self._finding("config-json-version", words, entry.value.at)
            return
        try:
            # As Chalice compares it.
            accepted = not float(value) > 2.0
        except (ValueError, OverflowError):
            accepted = False
        if not accepted:
            yield self._finding(
                "config-json-version",
                f"Chalice does not know the version {shown(str(value))}.",
                entry.value.at,
                fix='Write `"version": "2.0"`.',
            )

    def app_name(self, loaded: str | None) -> Iterator[Finding]:
        entry = self.config.tree.entry("app_name")
        if entry is None or (isinstance(entry.value, ScalarNode) and entry.value.value is None):
            strayed = self._strayed_name()
            meant = strayed[0] if strayed else self.app.name
            where = " at the top of the file (in `stages` it is not seen)" if strayed else ""
            at = strayed[1] if strayed else entry.value.at if entry else self.config.tree.at
            yield self._finding(
                "config-json-app-name",
                f"there is no `app_name`{where}: Chalice would call all resources `None-<stage>`.",
                at,
                fix=f'{"Move it there:" if strayed else "Write"} `"app_name": "{meant}"`, '
                'or write `"None"` if that is how they were deployed.',
            )
            return
        name = self.config.app_name
        if name is None:
            return
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            yield self._finding(
                "config-json-app-name",
                f"`app_name` {shown(name)} cannot be part of a Lambda function's name: "
                "only letters, digits, `-` and `_` can.",
                entry.value.at,
                fix=f'Write for example `"{_suggested(name)}"`.',
                subject=name,
            )
        elif loaded is not None and loaded != name:
            yield self._finding(
                "config-json-app-name-differs",
                f"`app_name` is {shown(name)} here and {shown(loaded)} in app.py. "
                "The AWS resources are called after this one.",
                entry.value.at,
                fix="Write the same name in both.",
                subject=name,
            )

    def _strayed_name(self) -> tuple[str, Place] | None:
        stages = self.config.tree.entry("stages")
        inside = stages.value if stages else None
        entry = inside.entry("app_name") if isinstance(inside, MapNode) else None
        if entry is None or not isinstance(entry.value, ScalarNode):
            return None
        name = entry.value.value
        if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name):
            return name, entry.at
        return None

    # keys

    def keys(self) -> Iterator[Finding]:
        yield from self._level(self.config.tree, Level.TOP, "")

    def _level(self, node: MapNode, level: Level, path: str) -> Iterator[Finding]:
        for entry in node.entries:
            here = f"{path}.{entry.key}" if path else entry.key
            key = BY_NAME.get(entry.key)
            if key is None:
                yield from self._unknown(entry, level, path)
            elif level not in key.levels:
                yield self._misplaced(entry, key, level, here)
            elif not _knows(self.chalice, key):
                yield self._finding(
                    Fault.UNKNOWN,
                    f"Chalice {self.chalice} ignores {_named(here)}: it came with {key.since}.",
                    entry.at,
                    fix=f"Use Chalice {key.since} or later, or remove the key.",
                    subject=entry.key,
                )
            elif key.name == "stages":
                yield from self._children(entry, Level.STAGE, here)
            elif key.name == "lambda_functions":
                inner = Level.TOP_FUNCTION if level is Level.TOP else Level.FUNCTION
                yield from self._children(entry, inner, here)
            else:
                for objection in key.check(entry.value, _named(here)):
                    yield self._objection(objection, entry.key)
                if key.name == "environment_variables":
                    yield from self._secrets(entry, here)

    def _children(self, entry: Entry, level: Level, path: str) -> Iterator[Finding]:
        """Stages or functions. Chalice fails with an AttributeError when one is no object."""
        if not isinstance(entry.value, MapNode):
            what = f"{_named(path)} must be an object, not {kind_of(entry.value)}."
            yield self._finding("config-json-type", what, entry.value.at, subject=entry.key)
            return
        for child in entry.value.entries:
            here = f"{path}.{child.key}"
            if isinstance(child.value, MapNode):
                yield from self._level(child.value, level, here)
            elif level is Level.STAGE and _strayed(child):
                yield self._misplaced(child, BY_NAME[child.key], level, here)
            else:
                what = f"{_named(here)} must be an object, not {kind_of(child.value)}."
                yield self._finding(
                    "config-json-type", what, child.value.at, fix="Write `{}`.", subject=child.key
                )

    def _objection(self, objection: Objection, key: str) -> Finding:
        return self._finding(
            objection.fault,
            objection.what,
            objection.at,
            fix=objection.fix,
            severity=objection.severity,
            subject=objection.subject or key,
        )

    def _unknown(self, entry: Entry, level: Level, path: str) -> Iterator[Finding]:
        if entry.key.startswith(("//", "#", "_comment", "$schema")):
            return
        if level is Level.TOP and entry.key == "project_dir":
            yield self._finding(
                "config-json-value",
                "`project_dir` makes Chalice package another folder than the app's.",
                entry.at,
                fix="Remove it.",
                subject=entry.key,
            )
            return
        where = f" in {_named(path)}" if path else ""
        fix = ""
        if level is Level.TOP and _like_a_stage(entry.value):
            hint = ""
            fix = "If it is a stage, move it into `stages`: beside it Chalice does not see it."
        elif entry.key == "profile":
            hint, fix = "", "Chalice takes the profile from `--profile` only."
        else:
            hint = self._hint(
                entry.key, (key.name for key in BY_NAME.values() if level in key.levels)
            )
        yield self._finding(
            Fault.UNKNOWN,
            f"Chalice does not know the key {shown(entry.key)}{where} and ignores it.{hint}",
            entry.at,
            fix=fix,
            subject=entry.key,
        )

    def _misplaced(self, entry: Entry, key: ConfigKey, level: Level, path: str) -> Finding:
        if level is Level.TOP_FUNCTION and Level.FUNCTION in key.levels:
            belongs = "into the function's entry within a stage"
        elif Level.STAGE in key.levels and Level.TOP in key.levels:
            belongs = "into a stage, or to the top for all stages"
        else:
            belongs = "to the top of the file"
        harmless = key.name in ("version", "app_name")
        return self._finding(
            "config-json-misplaced-key",
            f"Chalice ignores {_named(path)}: the key does not belong there.",
            entry.at,
            fix=f"Move it {belongs}.",
            severity=Severity.WARNING if harmless else None,
            subject=entry.key,
        )

    def _secrets(self, entry: Entry, path: str) -> Iterator[Finding]:
        if not isinstance(entry.value, MapNode):
            return
        # Late: it has many patterns, and most apps have no variables.
        from chalice_ci.plain_secrets import looks_secret

        for variable in entry.value.entries:
            value = variable.value
            if not isinstance(value, ScalarNode) or not isinstance(value.value, str):
                continue
            kind = looks_secret(variable.key, value.value)
            if kind is not None:
                yield self._finding(
                    "config-json-secret",
                    f"{shown(variable.key)} in {_named(path)} seems to be {kind}, in plain text.",
                    variable.at,
                    fix="Revoke it if it is real, keep it in a CI secret, and name that in "
                    "chalice-ci.yml: "
                    f"`environment-variables: {{{_identifier(variable.key)}: "
                    f"{{secret: {_identifier(variable.key)}}}}}`.",
                    subject=variable.key,
                )

    # stages, functions and names

    def stages(self, wanted: tuple[str, ...], preview_like: str | None) -> Iterator[Finding]:
        entry = self.config.tree.entry("stages")
        for name in self.config.stages:
            if not usable_stage(name):
                yield self._finding(
                    "config-json-stage-name",
                    f"the stage {shown(name)} cannot be used with chalice-ci: "
                    + (
                        "such names are kept for previews."
                        if re.fullmatch(PREVIEW_NAMES, name, re.IGNORECASE)
                        else "its name is no word of letters, digits, `-` and `_`, or is reserved."
                    ),
                    self.config.places.get(f"stages.{name}"),
                    subject=name,
                )
        needed = {
            preview_like if preview_like and re.fullmatch(PREVIEW_NAMES, stage) else stage: stage
            for stage in wanted
        }
        if preview_like:
            needed.setdefault(preview_like, preview_like)
        for stage, asked in needed.items():
            if stage in self.config.stages or (stage == "dev" and not self.config.stages):
                continue
            beside = self.config.tree.entry(stage)
            hint = self._hint(stage, self.config.stages[:200])
            yield self._finding(
                "config-json-stage-missing",
                f"there is no stage {shown(stage)} in {self.config.file}: Chalice would silently "
                f"create a whole new set of resources.{hint}",
                beside.at if beside else entry.at if entry else self.config.tree.at,
                fix=f"Move {shown(stage)} into `stages`: it stands beside it."
                if beside
                else f'Add `"{stage}": {{}}` to `stages`, or correct the name.',
                subject=stage,
                stage=asked,
            )

    def functions(
        self, wanted: tuple[str, ...], loaded: tuple[str, ...] | None
    ) -> Iterator[Finding]:
        if loaded is None:
            return
        stages = self.config.tree.entry("stages")
        places: list[tuple[str, Node]] = [("", self.config.tree)]
        if stages is not None and isinstance(stages.value, MapNode):
            # Other stages were not loaded: their functions are not known.
            places += [
                (f"stages.{stage.key}.", stage.value)
                for stage in stages.value.entries
                if stage.key in wanted
            ]
        for path, node in places:
            entry = node.entry("lambda_functions") if isinstance(node, MapNode) else None
            if entry is None or not isinstance(entry.value, MapNode):
                continue
            for function in entry.value.entries:
                if function.key not in loaded:
                    yield self._finding(
                        "config-json-unknown-function",
                        f"the app has no function {shown(function.key)}: Chalice ignores "
                        f"{_named(f'{path}lambda_functions.{function.key}')}."
                        f"{self._hint(function.key, loaded)}",
                        function.at,
                        fix=f"The functions are {', '.join(sorted(loaded)[:20]) or '(none)'}.",
                        subject=function.key,
                    )

    def names(
        self,
        wanted: tuple[str, ...],
        functions: tuple[str, ...],
        ruled: tuple[str, ...],
        preview_like: str | None,
    ) -> Iterator[Finding]:
        name = self.config.app_name
        if name is None:
            return
        stages = dict.fromkeys(wanted)
        if preview_like:
            stages[WIDEST_PREVIEW] = None
        for stage in stages:
            preview = re.fullmatch(PREVIEW_NAMES, stage) is not None
            like = preview_like if preview and preview_like else stage
            if like not in self.config.stages and self.config.stages:
                continue
            yield from self._too_long(name, stage, like, functions, ruled)

    def _too_long(
        self,
        name: str,
        stage: str,
        like: str,
        functions: tuple[str, ...],
        ruled: tuple[str, ...],
    ) -> Iterator[Finding]:
        def lookup(key: str, function: str | None) -> object:
            return self.config.lookup(like, key, function)

        worst: dict[str, AWSName] = {}
        for candidate in aws_names(name, stage, lookup, functions=functions, rules=ruled):
            known = worst.get(candidate.subject)
            if known is None or candidate.excess > known.excess:
                worst[candidate.subject] = candidate
        for subject, candidate in worst.items():
            if candidate.excess <= 0:
                continue
            also = f" of previews such as {stage}" if stage == WIDEST_PREVIEW else ""
            function = f", the function {shown(subject)}" if subject else ""
            yield self._finding(
                "aws-name-too-long",
                f"the {candidate.kind}{also} would be called {shown(candidate.name, 200)}: "
                f"{len(candidate.name)} characters, AWS allows {candidate.limit}.",
                self.config.places.get("app_name"),
                fix=f"Shorten the app_name{function} or the stage by {candidate.excess}.",
                subject=subject,
                stage=stage,
            )


def _named(path: str) -> str:
    """A dotted path for a sentence; the keys in it are the file's."""
    return "`" + shown(path, 120)[1:-1].replace("`", "'") + "`"


def usable_stage(name: str) -> bool:
    """Whether `chalice-ci.yml` takes a stage's name: Chalice takes any."""
    return (
        re.fullmatch(NAME_PATTERN, name) is not None
        and re.fullmatch(f"{RESERVED_NAMES}|{PREVIEW_NAMES}", name, re.IGNORECASE) is None
    )


def _like_a_stage(node: Node) -> bool:
    """An object with keys of a stage: somebody put it beside `stages`."""
    if not isinstance(node, MapNode):
        return False
    return any(
        entry.key in BY_NAME and Level.STAGE in BY_NAME[entry.key].levels for entry in node.entries
    )


def _suggested(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name[:100]).strip("-") or "app"


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name[:100])
