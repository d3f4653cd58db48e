"""Live many seeds; tell which broke a promise, and how to live it again."""

import argparse
import sys
import time
from itertools import islice

from tests.simulation import simulated
from tests.simulation.world import World


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, and all that was seen of it")
    parser.add_argument("--hours", type=float, default=24.0, help="virtual hours in which things go wrong")
    parser.add_argument("--orders", type=int, default=200, help="how many")
    parser.add_argument("--until-failed", action="store_true", help="stop at the first that broke a promise")
    asked = parser.parse_args()
    began = time.monotonic()
    seeds = [asked.seed] if asked.seed is not None else range(asked.first, asked.first + asked.seeds)
    broken = (seed for seed in seeds if not lived(seed, asked.hours, asked.orders, tell=asked.seed is not None))
    failed = list(islice(broken, 1 if asked.until_failed else None))
    sys.stdout.write(f"{len(seeds)} seeds in {time.monotonic() - began:.0f} s, {len(failed)} failed\n")
    return 1 if failed else 0


def lived(seed: int, hours: float, orders: int, *, tell: bool) -> bool:
    """Live one seed, and say what was wrong with it; *tell* all that was seen, too."""
    world = simulated(seed, hours=hours, orders=orders)
    if tell:
        narrate(world)
    for breach in world.history.breaches:
        sys.stdout.write(f"seed {seed}: {breach}\n")
    if world.history.breaches:
        sys.stdout.write(f"again: python -m tests.simulation --hours {hours} --orders {orders} --seed {seed}\n")
    sys.stdout.flush()
    return not world.history.breaches


def narrate(world: World) -> None:
    """Say all that was seen."""
    for note in world.history.notes:
        sys.stdout.write(" ".join(map(str, note)) + "\n")
    sys.stdout.write(f"digest {world.history.digest}\n")


if __name__ == "__main__":
    sys.exit(main())
