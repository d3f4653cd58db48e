"""A poller's days, lived in virtual time: all of it but the socket is real, and all that may go wrong does.

The event loop's clock jumps to whatever comes next, and what threads would do is done at moments
that the seed chooses. Between a modelled GraFx and real files stand the Poller, Lane, Governor, Course,
Client, Keyring, Downloader, Publisher and TinyStore as the service builds them. The network resets, stalls,
cuts, drips and lies; the remote locks, limits, goes down, takes tokens back and lets secrets slip; the
disk fills and fails; the wall clock is set; the process is stopped, killed, or loses its power in the
middle of a write; the shop adds, adds again, confirms, cancels, retries and looks, at the worst of
moments, too; somebody puts files where ours are to be. Afterwards the checker holds what everybody saw
against what was promised.

What it does not show: HTTP itself (there is a model in the wire's place, so redirects, framing and TLS are
the business of ``test_remote_from_hell``), the hook, several remotes at once, threads that run at the same
time, and whatever takes another store than TinyDB's. Files are a few kilobytes, so what counts as large, and
how much is read back at once, is made small with them; so is nothing else but the pauses before a failed
store is looked at again, which are made longer.

The same seed lives the same days::

    python -m tests.simulation --seeds 1000 --orders 200    # whole days, seeds 0 to 999
    python -m tests.simulation --seed 17                    # one again
    python -m tests.simulation.faults                       # what would it find, were it there?
"""

from tests.simulation.world import World
from tests.stores import in_memory


def simulated(seed: int, *, hours: float, orders: int) -> World:
    """Live one seed; what was wrong with it is in its history's ``breaches``."""
    with in_memory() as folder:
        world = World(seed, folder, hours=hours, orders=orders)
        world.live()
    return world
