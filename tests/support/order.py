"""The files that take longest are begun first, so that no worker is left with one at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# The longest first, by what `--durations=0` said; what is not named takes less than 15 seconds.
LONGEST = (
    "crash/test_machine.py",
    "parity/test_parity_deploy.py",
    "crash/test_kill_matrix.py",
    "canary/test_canary.py",
    "test_environment.py",
    "test_pipeline.py",
    "parity/test_parity_package.py",
    "test_package_parity.py",
    "test_deployer.py",
    "test_markdown_comment.py",
    "test_deployer_packages.py",
    "test_awslike.py",
    "crash/test_refusals.py",
    "test_init.py",
    "test_unrecorded.py",
    "test_diff.py",
    "test_reaction.py",
    "test_matrix_at_github.py",
    "test_previews_at_github.py",
    "test_random_previews.py",
    "crash/test_interruptions.py",
    "crash/test_holders.py",
    "test_previews.py",
    "test_examples.py",
    "test_shapes.py",
    "test_graph.py",
    "test_package_builder.py",
    "test_policy_enforced.py",
    "test_releases.py",
    "test_disk_faults.py",
    "test_stage_secrets.py",
    "test_recover.py",
    "test_local_gaps.py",
    "test_expiry.py",
    "test_state_stores.py",
    "test_fanout.py",
    "test_plan_trust.py",
    "test_package_build.py",
    "test_local_gateway.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file; within a file the order stays."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    if gone := [path.name for path in place if not path.is_file()]:
        raise pytest.UsageError(f"{Path(__file__).name} names what is not there: {gone}")
    items.sort(key=lambda item: place.get(item.path, len(place)))
