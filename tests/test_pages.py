"""Mappings that grow in short steps: they are dictionaries, whatever is done to them."""

import heapq
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from poller.stores.due import RUN, Due
from poller.stores.index import _sorted
from poller.stores.pages import _SHIFT, Paged, Pages, Shards

PAGE = 1 << _SHIFT
NEAR = st.integers(-3, 3)
IDS = st.one_of(
    st.builds(lambda page, near: page * PAGE + near, st.integers(-1, 4), NEAR),
    st.sampled_from(["a", "12", "-0", "ü"]),
    st.just(10**30),
)


class Model(RuleBasedStateMachine):
    """Pages beside a dictionary."""

    def __init__(self):
        super().__init__()
        self.ours, self.theirs = Pages(), {}

    @rule(doc_id=IDS, value=st.integers())
    def put(self, doc_id, value):
        self.ours[doc_id] = self.theirs[doc_id] = value

    @rule(more=st.integers(1, 2 * PAGE))
    def put_after_all(self, more):
        doc_id = max((each for each in self.theirs if isinstance(each, int)), default=0) + more
        self.ours[doc_id] = self.theirs[doc_id] = more

    @rule(doc_id=IDS)
    def take(self, doc_id):
        assert self.ours.pop(doc_id, None) == self.theirs.pop(doc_id, None)

    @rule(doc_id=IDS)
    def remove(self, doc_id):
        if doc_id in self.theirs:
            del self.ours[doc_id], self.theirs[doc_id]
        else:
            with pytest.raises(KeyError):
                del self.ours[doc_id]

    @rule(ids=st.lists(IDS, max_size=5, unique=True))
    def load(self, ids):
        self.ours.load(dict.fromkeys(ids, "loaded"))
        self.theirs.update(dict.fromkeys(ids, "loaded"))

    @rule(start=st.integers(0, 3 * PAGE), count=st.integers(1, 9))
    def load_in_order(self, start, count):
        some = dict.fromkeys(range(start, start + count), "in order")
        self.ours.load(some)
        self.theirs.update(some)

    @rule()
    def let_go(self):
        self.ours.dismantle()
        self.theirs.clear()

    @rule(ids=st.lists(IDS, max_size=3))
    def compare_with_others(self, ids):
        others = dict.fromkeys(ids)
        assert self.ours.isdisjoint(others) is self.theirs.keys().isdisjoint(others)

    @invariant()
    def is_a_dictionary(self):
        assert list(self.ours) == list(self.theirs)
        assert list(self.ours.items()) == list(self.theirs.items())
        assert sorted(map(str, self.ours.walk())) == sorted(map(str, self.theirs))
        assert len(self.ours) == len(self.theirs)
        assert bool(self.ours) is bool(self.theirs)
        assert self.ours.highest() == max((each for each in self.theirs if isinstance(each, int)), default=0)

    @invariant()
    def finds_what_a_dictionary_finds(self):
        for key in (0, 0.0, True, 1.0, 0.5, -1, PAGE, float(PAGE), float("inf"), float("nan"), "12", 12, None, 10**30):
            assert (key in self.ours) is (key in self.theirs)
            assert self.ours.get(key, "none") == self.theirs.get(key, "none")


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_no_page_is_large():
    """A hundred thousand ids lie on pages of a few thousand each."""
    pages = Pages()
    pages.load(dict.fromkeys(range(100_000)))
    pages.update(dict.fromkeys(range(100_000, 130_000)))
    assert max(map(len, pages._pages.values())) <= PAGE
    assert len(pages) == 130_000


def test_a_walk_sees_what_was_there_whatever_is_done_meanwhile():
    """Every id that stays is met once; those that come are not waited for."""
    pages = Paged()
    for doc_id in range(3 * PAGE):
        pages[doc_id] = None
    walked = []
    for doc_id in pages.walk():
        walked.append(doc_id)
        pages.pop(doc_id - 1)
        pages[10 * PAGE + doc_id] = None
    assert walked == list(range(3 * PAGE))


def test_ids_that_lie_far_apart_are_looked_for_one_by_one():
    """It does not take as many looks as there are pairs of a page and an id."""

    class Counted(dict):
        looks = 0

        def __contains__(self, key):
            Counted.looks += 1
            return super().__contains__(key)

        def __iter__(self):
            for each in super().__iter__():
                Counted.looks += 1
                yield each

    pages, others = Paged(), Counted.fromkeys(number * PAGE for number in range(1000))
    pages.update(dict.fromkeys(number * PAGE + 1 for number in range(1000)))
    assert pages.isdisjoint(others)
    assert Counted.looks <= 3 * len(others)
    pages[999 * PAGE] = None
    assert not pages.isdisjoint(others)


def test_a_page_with_few_ids_left_takes_little_memory():
    """One straggler does not keep the room of the thousands that went, and the rest stay in order."""
    pages = Pages()
    pages.load(dict.fromkeys(range(PAGE)))
    for doc_id in range(PAGE):
        if doc_id % 3000:
            del pages[doc_id]
    assert list(pages) == list(range(0, PAGE, 3000))
    assert sys.getsizeof(pages._pages[0]) < 2000


def test_shards_are_a_dictionary_of_texts():
    """What is put under a text is found there, once, and no shard has much of it."""
    shards, theirs = Shards(), {}
    for number in range(20_000):
        shards[f"t{number}"] = theirs[f"t{number}"] = number
    assert all(shards.get(text) == number for text, number in theirs.items())
    assert shards.get("t") is None
    assert (shards.setdefault("t1", 7), shards.setdefault("new", 7)) == (1, 7)
    del shards["t1"]
    assert shards.get("t1") is None
    with pytest.raises(KeyError):
        del shards["t1"]
    assert max(map(len, shards._shards)) < 400
    shards.dismantle()
    assert shards.get("t2") is None


@given(
    loaded=st.lists(st.integers(0, 50), max_size=20),
    steps=st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=40),
)
def test_the_least_entry_comes_first(loaded, steps):
    """Pushed or loaded, entries come out as from one heap."""
    due, heap = Due(loaded), sorted(loaded)
    for step in steps:
        if step is not None:
            due.push(step)
            heapq.heappush(heap, step)
        elif heap:
            due.take()
            heapq.heappop(heap)
        assert due.first() == (heap[0] if heap else None)


def test_many_entries_are_loaded_in_short_runs():
    """Entries of several runs come out in order, and what is let go of is gone."""
    entries = [(7919 * number) % (3 * RUN) for number in range(3 * RUN)]
    due = Due(entries)
    assert [len(run) for run in due._runs] == [RUN, RUN, RUN]
    came = []
    for _ in range(len(entries)):
        came.append(due.first())
        due.take()
    assert came == sorted(entries)
    due = Due(entries)
    due.push(-1)
    due.dismantle()
    assert due.first() is None


@pytest.mark.parametrize("step", [1, 7919])
def test_a_long_list_is_sorted_run_by_run(step):
    """Whether the runs follow each other or overlap, the list is sorted and has every entry once."""
    entries = [(step * number) % (3 * RUN) for number in range(3 * RUN)]
    assert list(_sorted(entries)) == sorted(entries)
