"""What follows from an event, by docs/events.md: written down a second time, without the product.

Words in, words out, as the cells of `tests/golden/decisions.md` have them. Nothing of chalice_ci is
imported, so that what the product decides is held against the rules and not against itself.
"""

from __future__ import annotations

REFUSED = "**refused**"
NOTHING = "nothing"

# What each configuration of the table says, by the page's own list.
STAGES = {"none": ("dev", "qa"), "any": ("dev",)}
_THREE = ("dev", "staging", "prod")
_BY_MAIN = {"none": ("dev",), "any": ("dev",), "halfway": _THREE}
_BY_VERSION_TAG = dict.fromkeys(("plain", "gated", "previews", "labelled"), ("prod",))
# A stage with an environment waits for it, and so does what needs such a stage.
_WAIT = {"gated": {"prod"}, "halfway": {"staging", "prod"}}
_WITH_PREVIEWS = {"previews", "labelled", "any"}
_UNTRUSTED = {"fork", "deleted fork", "dependabot"}
_PREVIEW = "pr-42"


def decided(
    event: str, action: str, source: str, labels: tuple[str, ...], config: str, *, record: bool
) -> str:
    """The tasks of a row; `record` when the app and a former one have a preview on record."""
    source, _, who = source.partition(", ")
    match event:
        case "pull_request":
            return _pull_request(action, source, labels, config, record=record)
        case "pull_request_target":
            # Only taking a preview down needs no code.
            return _closed(source, config, record=record) if action == "closed" else REFUSED
        case "push":
            return NOTHING if action == "deleted" else _ref(source, config, by=who)
        case "workflow_dispatch":
            return _ref(source, config, by=who)
        case "release":
            published = action in ("published", "released")
            return _ref(source, config) if published else NOTHING
        case "merge_group" | "schedule":
            return _told(check=_stages(config))
    return REFUSED


def _stages(config: str) -> tuple[str, ...]:
    return STAGES.get(config, _THREE)


def _pull_request(
    action: str, who: str, labels: tuple[str, ...], config: str, *, record: bool
) -> str:
    if action == "closed":
        return _closed(who, config, record=record)
    if who in _UNTRUSTED:
        first, *others = _stages(config)
        return _told(rehearse=(first,), check=tuple(others))
    stages = _stages(config)
    if config not in _WITH_PREVIEWS:
        return _told(check=stages)
    if config == "labelled" and "preview" not in labels:
        lost = action == "unlabeled +preview"
        return _told(check=stages, down=_standing(record=record, expected=lost))
    return _told(check=stages, up=(_PREVIEW,))


def _closed(who: str, config: str, *, record: bool) -> str:
    if who in _UNTRUSTED:
        return NOTHING
    return _told(down=_standing(record=record, expected=config in _WITH_PREVIEWS))


def _standing(*, record: bool, expected: bool) -> tuple[str, ...]:
    """What is recorded goes, of both apps; else what may stand without our knowing."""
    if record:
        return (_PREVIEW, _PREVIEW)
    return (_PREVIEW,) if expected else ()


def _ref(ref: str, config: str, *, by: str = "") -> str:
    kind, _, name = ref.partition("/")
    if (kind, name) == ("heads", "chalice-state"):
        return NOTHING
    deployed: tuple[str, ...] = ()
    if kind == "heads" and name == "main":
        deployed = _BY_MAIN.get(config, ("dev", "staging"))
    elif kind == "heads" and config == "any":
        deployed = ("dev",)
    elif kind == "tags" and name.startswith("v"):
        deployed = _BY_VERSION_TAG.get(config, ())
    if not deployed or by in _UNTRUSTED:
        return _told(check=_stages(config))
    waiting = tuple(stage for stage in deployed if stage in _WAIT.get(config, ()))
    # A tag that deploys something is about that only.
    rest = () if kind == "tags" else tuple(s for s in _stages(config) if s not in deployed)
    return _told(
        deploy=tuple(stage for stage in deployed if stage not in waiting), plan=waiting, check=rest
    )


def _told(**tasks: tuple[str, ...]) -> str:
    return "; ".join(f"{verb} {', '.join(stages)}" for verb, stages in tasks.items() if stages) or (
        NOTHING
    )
