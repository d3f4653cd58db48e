"""Whole days of a poller from a seed: what was promised holds after each, and each can be lived again."""

import os
import subprocess
import sys

import pytest

from tests.simulation import faults, simulated

SMALL = {"hours": 2.5, "orders": 6}
"""As much as a hundred seeds can live in half a minute; ``python -m tests.simulation`` lives whole days."""
SEEDS, CHUNK = 100, 10
SAMPLE = (
    "troubles are not counted",
    "what is done can be retried",
    "no text is masked",
    "a rest is told before it is durable",
)
"""Faults that are found within seconds, so that a table of them which finds nothing is noticed at once."""


def _again(seed: int, size: dict[str, float]) -> str:
    return f"python -m tests.simulation --hours {size['hours']} --orders {size['orders']} --seed {seed}"


def _live(seeds: range, **size: float) -> None:
    broken = {seed: breaches for seed in seeds if (breaches := simulated(seed, **size).history.breaches)}
    told = [f"seed {seed}: {'; '.join(breaches)}\n  again: {_again(seed, size)}" for seed, breaches in broken.items()]
    assert not broken, "\n".join(told)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_a_hundred_seeds_keep_every_promise(first):
    """What broke is told with its seed and the command that lives it again."""
    _live(range(first, first + CHUNK), **SMALL)


@pytest.mark.heavy
@pytest.mark.timeout(24 * 3600)
def test_whole_days_with_two_hundred_orders_keep_every_promise():
    """At night, with as much as a shop does in a day."""
    _live(range(1000, 1100), hours=24.0, orders=200)


def test_every_fault_that_the_simulation_must_find_can_still_be_planted():
    """Who changes the code that one of them changes says anew in ``faults.toml`` what would be wrong with it."""
    assert [fault.what for fault in faults.known() if not fault.fits] == []


@pytest.mark.heavy
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize(
    "fault",
    [fault for fault in faults.known() if not fault.behind],
    ids=lambda fault: f"{fault.breaks}: {fault.what}",
)
def test_a_planted_fault_is_found(fault):
    """Each in a copy of the tree; without this nobody would know what the seeds above are worth."""
    assert faults.found(fault, seeds=100)


@pytest.mark.parametrize("what", SAMPLE)
def test_a_sample_of_the_planted_faults_is_found(what):
    """The whole table takes half an hour."""
    [fault] = [fault for fault in faults.known() if fault.what == what]
    assert faults.found(fault, seeds=12).startswith("seed ")


def test_a_seed_lives_the_same_days_in_every_process():
    """Neither the hashes of texts nor anything else outside the seed has a say."""
    command = [sys.executable, "-m", "tests.simulation", "--hours", "3", "--orders", "6", "--seed", "46"]
    runs = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": number}, capture_output=True, text=True, check=True
        )
        for number in ("1", "2")
    ]
    assert runs[0].stdout.splitlines()[:-1] == runs[1].stdout.splitlines()[:-1]
    assert "digest " in runs[0].stdout
