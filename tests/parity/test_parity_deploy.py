"""chalice-ci leaves in AWS what plain Chalice leaves there: after deploy, update and delete."""

from __future__ import annotations

import pytest

from support.shapes import SHAPES, Shape
from support.stories import Phase, Stories, shapes_of

DEPLOYED = tuple(shape for shape in SHAPES if shape.deploys)


def test_plain_chalice_accepts_each_shape(stories: Stories) -> None:
    assert not stories.plain.failures, "\n\n".join(stories.plain.failures)


def test_chalice_ci_accepts_each_shape_that_plain_chalice_accepts(stories: Stories) -> None:
    assert not stories.ours.failures, "\n\n".join(stories.ours.failures)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("shape", DEPLOYED, ids=str)
def test_the_resources_of_each_shape_are_the_same(
    stories: Stories, shape: Shape, phase: Phase
) -> None:
    if shape not in shapes_of(stories.combination):
        pytest.skip(f"{shape.name} is for another Chalice, or for `make test-deep`")
    plain = stories.plain.listings[phase].of(*shape.owners)
    ours = stories.ours.listings[phase].of(*shape.owners)
    if phase is not Phase.DELETE:
        assert plain.resources, "the listing knows nothing of this shape"
    assert plain == ours, plain.difference(ours)


@pytest.mark.parametrize("phase", Phase)
def test_the_whole_accounts_are_the_same(
    stories: Stories, phase: Phase, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, ours = stories.plain.listings[phase], stories.ours.listings[phase]
    with capsys.disabled():
        print(
            f"\n{stories.combination} after {phase}: {len(plain.resources)} resources, "
            f"{plain.lines} lines; plain {stories.plain.seconds[phase]:.0f} s, "
            f"ours {stories.ours.seconds[phase]:.0f} s"
        )
    assert plain == ours, plain.difference(ours)


@pytest.mark.parametrize("phase", Phase)
def test_the_recorded_states_are_the_same(stories: Stories, phase: Phase) -> None:
    """Whoever goes back to plain Chalice finds the file that it would have written."""
    assert stories.plain.states[phase] == stories.ours.states[phase]


def test_an_update_changes_every_shape(stories: Stories) -> None:
    """Else the update would show nothing."""
    deployed, updated = (stories.plain.listings[phase] for phase in (Phase.DEPLOY, Phase.UPDATE))
    unchanged = [
        shape.name
        for shape in shapes_of(stories.combination)
        if deployed.of(*shape.owners) == updated.of(*shape.owners)
    ]
    assert not unchanged


def test_delete_leaves_only_what_was_there_before_and_log_groups(stories: Stories) -> None:
    left = {
        name
        for name in stories.ours.listings[Phase.DELETE].resources
        if name not in stories.ours.before.resources and not name.startswith("log group ")
    }
    assert not left
