"""The wrapper for any system with Docker, run."""

from __future__ import annotations

from pathlib import Path

from plugins.bench import Bench, Door

WRAPPER = Path(__file__).parents[2] / "plugins/docker/chalice-ci"


def test_it_hands_over_what_the_product_reads_and_nothing_else_of_the_job(
    bench: Bench, started: Door
) -> None:
    told = {"CHALICE_CI_EVENT": "push", "CHALICE_CI_BRANCH": "feature", "DEPLOY_TOKEN": "secret"}
    ran = bench.step(f'"{WRAPPER}" check --stage "dev"', **told, CHALICE_IMAGE="an/image:1")
    assert ran.code == 0, ran.out + ran.err
    (asked,) = started.asked
    assert asked.arguments == ("check", "--stage", "dev")
    assert {"CI", "AWS_ACCESS_KEY_ID", "CHALICE_CI_BRANCH"} <= asked.env.keys()
    assert "DEPLOY_TOKEN" not in asked.env
    assert "an/image:1" in bench.calls[0]


def test_the_exit_code_is_the_products(bench: Bench) -> None:
    assert bench.step(f'"{WRAPPER}" check --stage nowhere').code == 2
