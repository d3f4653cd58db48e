"""What the remote sees of us: who was asked about how often, how many at once, and what was dealt to whom."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.simulation.grafx import Answer
from tests.simulation.history import History

CHECKS, DOWNLOADS = 8, 2
"""Questions and downloads at once."""
_MINUTE = 60.0
_OFTEN = 100
"""Requests about one task within a minute. The pace asks 26 times in the first; each may be tried three times."""
_REFUSALS = 25
"""Logins within a minute to be told that nobody is let in."""
_LONGEST = 61.0
"""Seconds that a request may take which is no download."""
_ROW, _TASKS = 40, 5
"""Requests in a row that came to nothing, and over how many tasks, by which it must be known that the remote is down:
five questions, each tried three times, and as many more as may be under way."""
_ENOUGH, _ORDERS = 5, 3
"""Requests in a row that came to nothing, and over how many tasks, from which it may be thought that it is."""
_BURST, _INTERVAL, _TRIES = 24, 55.0, 3
"""Requests under way at once; seconds between two looks whether an outage is over; requests in each."""


class Sent(NamedTuple):
    """A request: a question, a link, or a login (about no task)."""

    about: str
    is_link: bool
    at: float


class Dealt(NamedTuple):
    """Something that went wrong with a request.

    Attributes:
        known: whether it was known that the remote is down.
    """

    at: float
    known: bool = False


class Reply(NamedTuple):
    """What was answered.

    Attributes:
        asked_at: when that was asked.
        wish: seconds for which the remote wants to be left alone.
    """

    asked_at: float
    at: float
    status: int
    wish: float = 0.0


class Vain(NamedTuple):
    """A question or a login that came to nothing.

    Attributes:
        silent: whether nothing was answered.
    """

    about: str
    silent: bool


class Manners:
    """Takes note of every request.

    Attributes:
        dealt: to each task, "" standing for logins.
        asked: of each task, when.
        questions: of each task, when one was asked.
        links: of each task's file, when one was followed.
        whole: of each task's file, when it came whole, and so that one could tell.
        replies: to what was asked of each task.
        let_in_at: when a question was last answered.
    """

    def __init__(self, history: History, time: Callable[[], float]) -> None:
        self.dealt: defaultdict[str, list[Dealt]] = defaultdict(list)
        self.asked: defaultdict[str, list[float]] = defaultdict(list)
        self.questions: defaultdict[str, list[float]] = defaultdict(list)
        self.links: defaultdict[str, list[float]] = defaultdict(list)
        self.whole: defaultdict[str, list[float]] = defaultdict(list)
        self.replies: defaultdict[str, list[Reply]] = defaultdict(list)
        self._history, self._time = history, time
        self._under_way: Counter[tuple[str, bool]] = Counter()
        self._refused: deque[float] = deque(maxlen=_REFUSALS)
        self.let_in_at = 0.0
        self.restart()

    def restart(self) -> None:
        """Forget what was under way: the process is another, and knows of no outage."""
        self._under_way.clear()
        self._bad_logins: set[Sent] = set()
        self._row: list[Vain] = []
        self._ended: tuple[float, list[Vain]] = (float("-inf"), [])
        self._known_since: float | None = None
        self._probes = 0

    # --- requests

    @contextmanager
    def sending(self, about: str, *, is_link: bool) -> Iterator[Sent]:
        """Take note of a request while it lasts."""
        sent = Sent(about, is_link, self._time())
        self._under_way[about, is_link] += 1
        if about:
            self._see(sent)
        try:
            yield sent
        finally:
            self._under_way[about, is_link] -= 1
            if sent in self._bad_logins:
                self._bad_logins.remove(sent)
                self._note_dealt(sent)
            if not is_link and self._time() - sent.at > _LONGEST:
                self._history.breach(f"a request about {about or 'nobody'} took {self._time() - sent.at:.0f} s")

    def _see(self, sent: Sent) -> None:
        about, asked = sent.about, self.asked[sent.about]
        asked.append(sent.at)
        (self.links if sent.is_link else self.questions)[sent.about].append(sent.at)
        if self._under_way[about, False] + self._under_way[about, True] > 1:
            self._history.breach(f"{about} was asked about twice at a time")
        if len(asked) > _OFTEN and asked[-1] - asked[-_OFTEN] < _MINUTE:
            self._history.breach(f"{about} was asked about {_OFTEN} times within a minute")
        for what, is_link, most in (("questions", False, CHECKS), ("downloads", True, DOWNLOADS)):
            if sum(count for (task, link), count in self._under_way.items() if task and link is is_link) > most:
                self._history.breach(f"more than {most} {what} were under way")
        if self._known_since is not None and not sent.is_link:
            self._probe(sent.at - self._known_since)

    def _probe(self, seconds: float) -> None:
        self._probes += 1
        if self._probes > _BURST + _TRIES * (8 + seconds / _INTERVAL):
            self._history.breach(f"{self._probes} questions were asked in {seconds:.0f} s of an outage")

    # --- and what became of them

    def failed(self, sent: Sent) -> None:
        """Take note that nothing was answered."""
        self._deal(sent)
        self._in_vain(sent, silent=True)

    def answered(self, sent: Sent, answer: Answer, wrong: str) -> None:
        """Take note of an answer, and of what goes *wrong* with it on its way; one that is short may still be read."""
        wish = answer.headers.get("retry-after", "")
        self.replies[sent.about].append(
            Reply(sent.at, self._time(), answer.status, float(wish) if wish.isdigit() and not wrong else 0.0)
        )
        if wrong or answer.status in {429, 502, 503, 504} or (sent.is_link and answer.status not in {200, 206}):
            self._deal(sent)
            if answer.status >= 500 or wrong not in {"", "short"}:
                self._in_vain(sent, silent=wrong not in {"", "short"})
            elif wrong and not sent.is_link:
                self._let_in()
        elif answer.status == 401:
            self._refuse(sent)
            if not sent.about:
                self._end()
        elif sent.about and not sent.is_link:
            self._let_in()

    def came(self, sent: Sent) -> None:
        """Take note that a file came whole."""
        self.whole[sent.about].append(self._time())

    def _deal(self, sent: Sent) -> None:
        """Take note that something went wrong; with a login when it ends, for until then anybody may join it."""
        if sent.about:
            self._note_dealt(sent)
        else:
            self._bad_logins.add(sent)

    def _note_dealt(self, sent: Sent) -> None:
        self.dealt[sent.about].append(Dealt(self._time(), known=self._known_since is not None))

    def _refuse(self, sent: Sent) -> None:
        """Take note of a refusal. A token that was taken back is answered so as well, and is no trouble."""
        self._deal(sent)
        if sent.about:
            return
        self._refused.append(self._time())
        if len(self._refused) == _REFUSALS and self._refused[-1] - self._refused[0] < _MINUTE:
            self._history.breach(f"{_REFUSALS} logins were tried within a minute at a closed door")

    # --- outages

    def _in_vain(self, sent: Sent, *, silent: bool) -> None:
        if sent.is_link:
            return
        self._row.append(Vain(sent.about, silent))
        last = {vain.about for vain in self._row[-_ROW // 2 :]}
        if self._known_since is None and len(self._row) >= _ROW and "" not in last and len(last) >= _TASKS:
            self._known_since, self._probes = self._time(), 0

    def _let_in(self) -> None:
        self._end()
        self.let_in_at = self._time()

    def _end(self) -> None:
        """Take note that the remote is there."""
        if self._row:
            self._ended = self._time(), self._row
        self._row, self._known_since = [], None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked or received at present."""
        return not any(self._under_way.values())

    @property
    def is_well(self) -> bool:
        """Whether questions are answered at present."""
        return not self._row and self._time() - self.let_in_at < _MINUTE

    def seems_down(self, within: float) -> bool:
        """Tell whether the remote may be thought to be down, or might be just now.

        Five in a row came to nothing, and three of them were about different tasks, or not answered at all.
        What goes wrong with a login does so for whoever waits for it.
        """
        ended_at, row = self._ended
        return _is_outage(self._row) or (self._time() - ended_at < within and _is_outage(row))


def _is_outage(row: Sequence[Vain]) -> bool:
    answered = {vain.about for vain in row if not vain.silent}
    silences = sum(vain.silent for vain in row)
    return "" in {vain.about for vain in row} or (len(row) >= _ENOUGH and silences + len(answered) >= _ORDERS)
