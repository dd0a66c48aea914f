"""The blocks of a page that tell of one result: failures, steps, packages, what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from chalice_ci.report import markdown as md
from chalice_ci.report.report import Effect, Failure, Isolation, Outcome, Result, Smoke
from chalice_ci.report.sizes import human_size


def bold_names(results: list[Result]) -> str:
    """The app and its stages, in bold."""
    return md.strong(names_of(results))


def names_of(results: list[Result]) -> str:
    """The app and its stages."""
    stages = ", ".join(result.stage for result in results[:6])
    more = f" and {len(results) - 6} more" if len(results) > 6 else ""
    return f"{results[0].app}/{stages}{more}"


def still_needed(result: Result) -> str:
    """What stands between a pull request and a stage, as a list that nobody can tick by hand."""
    name = md.strong(f"{result.app}/{result.stage}")
    lines = [f"What {name} still needs:"]
    for need in result.needs:
        sign = "✅" if need.met else "✋" if need.asks else "⬜"
        lines.append(f"- {sign} {md.prose(need.text, 240)}")
    return "\n".join(lines)


def affected(result: Result, effect: Effect) -> str:
    """The resources that a result has this effect on."""
    names = list(dict.fromkeys(o.resource for o in result.operations if o.effect is effect))
    shown = ", ".join(md.code(name, 80) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def failed(name: str, failure: Failure) -> str:
    """A failure, with what to do about it."""
    head = f"{md.strong(name)} failed" if name else "The run stopped"
    where = f" at {md.code(failure.where)}" if failure.where not in ("", name) else ""
    parts = [f"{head}{where} ({md.code(failure.exit_code.reason)}): {_first(failure.what)}"]
    _, _, more = failure.what.partition("\n")
    if more.strip():
        parts.append(md.fence(more, lines=12))
    return "\n\n".join([*parts, *fix_blocks(failure.fix)])


def _first(what: str) -> str:
    return md.prose(what.partition("\n")[0])


def fix_blocks(fix: str) -> list[str]:
    """The fix: a sentence, and code to copy as a block of it."""
    if not fix:
        return []
    first, _, rest = fix.partition("\n")
    parts = [f"**Fix:** {md.prose(first)}"]
    if rest.strip():
        python = "experimental_feature_flags" in rest
        parts.append(md.fence(rest, language="python" if python else "", lines=15))
    return parts


def steps(result: Result) -> str:
    """The steps of a result as a table."""
    signs = {
        Outcome.PLANNED: "📝",
        Outcome.DONE: "✅",
        Outcome.FAILED: "❌",
        Outcome.NOT_REACHED: "⏸️",
    }
    rows: tuple[tuple[str, ...], ...] = tuple(
        (
            f"{signs[operation.outcome]} {operation.outcome.value}",
            f"**{operation.effect.value}**"
            if operation.effect in (Effect.DELETE, Effect.REPLACE)
            else operation.effect.value,
            md.code(operation.resource, 80),
            md.code(operation.method, 60),
            md.prose(operation.message, 160),
        )
        for operation in result.operations[:30]
    )
    name = md.strong(f"{result.app}/{result.stage}")
    head: tuple[str, ...] = ("Outcome", "Effect", "Resource", "Step", "Note")
    if not any(cells[-1] for cells in rows):
        head, rows = head[:-1], tuple(cells[:-1] for cells in rows)
    parts = [name, md.table(head, rows)]
    if len(result.operations) > 30:
        parts.append(f"… and {len(result.operations) - 30} more steps, in `report.json`.")
    return "\n\n".join(parts)


def failed_check(result: Result, smoke: Smoke) -> str:
    """A smoke check that failed, in a line."""
    name = md.strong(f"{result.app}/{result.stage}")
    status = f" answered {smoke.status}" if smoke.status is not None else ""
    said = f": {md.prose(smoke.message)}" if smoke.message else ""
    return f"❌ {name} {md.code(smoke.path)}{status}{said}"


def package_details(results: list[Result]) -> str:
    """A package: its size, its archives and what it depends on."""
    package = results[0].package
    if package is None:
        return ""
    stages = ", ".join(md.text(result.stage, 64) for result in results[:12])
    about = [
        f"{md.strong(results[0].app, 64)} ({stages})",
        human_size(package.size),
        f"Python {md.text(package.python, 20)}" if package.python else "",
        md.text(package.architecture, 20),
    ]
    lines = [" · ".join(part for part in about if part)]
    for archive in package.archives[:4]:
        unpacked = (
            f", {human_size(archive.unpacked_size)} unpacked" if archive.unpacked_size else ""
        )
        entries = f", {number_of(archive.entries, 'file')}" if archive.entries else ""
        lines.append(
            f"- {md.text(archive.slot, 20)}: {human_size(archive.size)}{unpacked}{entries}, "
            f"sha256 {md.code(archive.sha256, 64)}"
        )
    # Those that requirements.txt names first.
    known = sorted(package.dependencies, key=lambda d: (not d.direct, d.name))
    shown = [
        f"{md.strong(d.name, 80) if d.direct else md.text(d.name, 80)} {md.text(d.version, 40)}"
        for d in known[:60]
    ]
    more = f" and {len(known) - 60} more" if len(known) > 60 else ""
    if shown:
        lines.append(
            f"- {number_of(len(known), 'dependency', 'dependencies')}: {', '.join(shown)}{more}"
        )
    return "\n".join(lines)


def weakest_isolation(levels: Sequence[Isolation]) -> str:
    """The weakest level that any app was loaded with, and why it was not the full one."""
    if not levels:
        return ""
    order = {"none": 0, "partial": 1, "full": 2}
    weakest = min(levels, key=lambda isolation: order.get(isolation.level, 0))
    reasons = "; ".join(md.prose(reason, 120) for reason in weakest.reasons[:3])
    why = f" ({reasons})" if reasons else ""
    return f"isolation {md.text(weakest.level, 20)}{why}"


def number_of(number: int, singular: str, plural: str = "") -> str:
    """A number and its noun: "1 error", "2 errors"."""
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"
