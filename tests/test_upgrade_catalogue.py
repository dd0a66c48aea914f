"""The catalogue of Chalice's releases: complete, well formed, and exact about an app."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

from chalice_ci import rules
from chalice_ci.app import versions
from chalice_ci.app.versions import SUPPORTED
from chalice_ci.upgrade import document
from chalice_ci.upgrade.catalogue import (
    Impact,
    Note,
    notes,
    notes_between,
    releases,
    touched_note,
    upgrade_between,
)
from chalice_ci.upgrade.detectors import touched
from support.upgrades import facts

ROOT = Path(__file__).parents[1]
NAMED = [note for note in notes() if note.name]
PLAIN = "from chalice import Chalice\n\napp = Chalice(app_name='orders')\n"
QUEUE = PLAIN + "\n\n@app.on_sqs_message(queue='jobs'{more})\ndef work(event):\n    pass\n"


def whats(found):
    return [one.note.what for one in found]


def test_every_supported_release_is_in_the_catalogue():
    assert set(SUPPORTED) <= set(releases())
    assert releases()[-1] == max(SUPPORTED, key=Version)


def test_the_releases_that_have_upgrade_notes_are_all_there():
    """The sections of Chalice's own upgrade notes."""
    told = {note.version for note in NAMED}
    assert told >= {"0.6.0", "0.7.0", "0.8.1", "0.9.0", "1.0.0b1", "1.0.0b2", "1.2.0"}


def test_every_note_is_well_formed(tmp_path):
    plain = facts(tmp_path, {"app.py": PLAIN})
    for note in notes():
        assert note.version in releases(), note
        assert note.topic, note
        assert note.what.endswith("."), note
        assert not note.rule or note.rule in rules.RULES, note
        for touch in note.touch:
            # An unknown one is refused.
            touched(plain, touch)


@pytest.mark.parametrize("note", NAMED, ids=lambda note: note.name)
def test_an_upgrade_note_says_what_why_before_and_after(note: Note):
    assert note.why.endswith(".")
    assert note.before
    assert note.after
    assert note.before != note.after
    assert note.touch
    assert note.link.startswith("https://")


@pytest.mark.parametrize("note", [note for note in NAMED if note.file], ids=lambda note: note.name)
def test_a_notes_example_is_touched_before_and_not_after(note: Note, tmp_path):
    before = facts(tmp_path / "before", {"app.py": PLAIN, note.file: note.before + "\n"})
    after = facts(tmp_path / "after", {"app.py": PLAIN, note.file: note.after + "\n"})
    assert touched_note(note, before) is not None
    assert touched_note(note, after) is None


def test_names_are_unique_because_they_are_anchors():
    names = [note.name for note in NAMED]
    assert len(set(names)) == len(names)


def test_a_touch_that_means_nothing_is_refused(tmp_path):
    app = facts(tmp_path, {"app.py": PLAIN})
    for wrong in ("decorator:route", "uses", "any:thing", ""):
        with pytest.raises(ValueError, match="unknown touch"):
            touched(app, wrong)


def test_the_documentation_is_generated_from_the_catalogue():
    written = (ROOT / "docs/upgrades.md").read_text(encoding="utf-8")
    assert written == document.document(), (
        "run: python -m chalice_ci.upgrade.document docs/upgrades.md"
    )


def test_the_dropped_pythons_are_those_that_a_version_finding_names():
    """The one table is for an app's own Python, the other for its CI."""
    told = {n.name.removeprefix("python-"): n.version for n in NAMED if n.rule == "python-dropped"}
    assert told == versions.DROPPED


# --- between two releases -------------------------------------------------------------------------


def test_only_what_the_app_uses_is_listed(tmp_path):
    """An app without queues hears nothing of queues; with the new argument it does."""
    without = facts(tmp_path / "a", {"app.py": PLAIN})
    plain = facts(tmp_path / "b", {"app.py": QUEUE.format(more="")})
    bounded = facts(tmp_path / "c", {"app.py": QUEUE.format(more=", maximum_concurrency=5")})
    told = [
        [one.note.version for one in notes_between("1.31.1", "1.31.2", app)]
        for app in (without, plain, bounded)
    ]
    assert told == [[], [], ["1.31.2"]]
    (one,) = notes_between("1.31.1", "1.31.2", bounded)
    assert [str(at) for at in one.places] == ["app.py:6"]


def test_every_app_is_touched_by_what_the_template_always_gets(tmp_path):
    app = facts(tmp_path, {"app.py": PLAIN})
    told = notes_between("1.33.0", "1.34.0", app)
    assert [one.note.topic for one in told] == ["Architecture"]
    assert "Architectures" in told[0].note.what


def test_a_key_of_the_configuration_counts_in_its_stage_only(tmp_path):
    config = (
        '{"version": "2.0", "app_name": "orders", "stages": {'
        '"dev": {"environment_variables": {"xray": "1"}}, "prod": {"xray": true}}}'
    )
    files = {"app.py": PLAIN, ".chalice/config.json": config}
    dev = facts(tmp_path / "dev", files)
    prod = facts(tmp_path / "prod", files, stage="prod")
    assert "`xray` turns tracing on." not in whats(notes_between("1.19.0", "1.20.0", dev))
    (one,) = (n for n in notes_between("1.19.0", "1.20.0", prod) if "xray" in n.note.what)
    assert one.places[0].file == ".chalice/config.json"


def test_an_app_on_a_dropped_python_hears_that_it_breaks(tmp_path):
    app = facts(tmp_path, {"app.py": PLAIN}, python="3.9")
    told = notes_between("1.32.0", "1.33.0", app)
    assert (told[0].note.impact, told[0].note.name) == (Impact.BREAKS, "python-3.9")


def test_notes_are_those_after_the_old_and_up_to_the_new_release(tmp_path):
    app = facts(tmp_path, {"app.py": QUEUE.format(more=", maximum_concurrency=5")})
    for old in releases():
        told = notes_between(old, "1.34.0", app)
        assert all(Version(old) < Version(one.note.version) for one in told)
        versions = [Version(one.note.version) for one in told]
        assert versions == sorted(versions)


def test_two_steps_tell_what_one_step_tells(tmp_path):
    app = facts(tmp_path, {"app.py": QUEUE.format(more=", maximum_concurrency=5")})
    for middle in releases()[1:-1]:
        both = (
            *notes_between(releases()[0], middle, app),
            *notes_between(middle, releases()[-1], app),
        )
        assert both == notes_between(releases()[0], releases()[-1], app)


def test_a_downgrade_tells_what_is_undone(tmp_path):
    app = facts(tmp_path, {"app.py": QUEUE.format(more=", maximum_concurrency=5")})
    assert notes_between("1.34.0", "1.29.0", app) == notes_between("1.29.0", "1.34.0", app)
    upgrade = upgrade_between("1.34.0", "1.29.0", app)
    assert upgrade is not None
    assert (upgrade.before, upgrade.after, upgrade.downgrade) == ("1.34.0", "1.29.0", True)


def test_the_same_release_is_no_upgrade(tmp_path):
    app = facts(tmp_path, {"app.py": PLAIN})
    assert notes_between("1.34.0", "1.34.0", app) == ()
    assert upgrade_between("1.34", "1.34.0", app) is None


def test_releases_that_nobody_described_are_named(tmp_path):
    app = facts(tmp_path, {"app.py": PLAIN})
    upgrade = upgrade_between("1.33.0", "1.99.0", app)
    assert upgrade is not None
    assert upgrade.unknown == f"Nothing is known here of releases after {releases()[-1]}."
    known = upgrade_between("1.33.0", "1.34.0", app)
    assert known is not None
    assert known.unknown == ""


def test_an_old_app_hears_of_everything_that_breaks_it(tmp_path):
    """From 0.6 to today, as a report carries it: with places and sections of the documentation."""
    files = {
        "app.py": PLAIN
        + "app.define_authorizer(name='users', header='X', auth_type='custom')\n\n\n"
        + "@app.route('/orders/{order_id}', authorizer_name='users')\n"
        + "def order(id):\n    return app.current_request.raw_body.split('&')\n",
        "deploy.sh": "chalice deploy prod\n",
        ".chalice/policy.json": "{}",
        ".chalice/config.json": '{"app_name": "orders", "autogen_policy": false}',
    }
    upgrade = upgrade_between("0.6.0", "1.34.0", facts(tmp_path, files))
    assert upgrade is not None
    breaks = {
        note.anchor: [str(at) for at in note.at]
        for note in upgrade.notes
        if note.impact == "breaks"
    }
    assert breaks == {
        "raw-body": ["app.py:9"],
        "define-authorizer-removed": ["app.py:4"],
        "authorizer-name-removed": ["app.py:7"],
        "deploy-positional-stage": ["deploy.sh:1"],
        "route-parameter-names": ["app.py:7"],
        "policy-json-removed": [".chalice/policy.json"],
    }
    headings = re.findall(r"^### (\S+)$", document.document(), re.MULTILINE)
    # GitHub leaves the points out of a heading's anchor.
    anchors = {heading.replace(".", "") for heading in headings}
    assert {note.anchor for note in upgrade.notes} <= anchors
