"""Names on disk: whatever a task ID holds, its file stays in the folder, in sight, and its own."""

import itertools
import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poller.filename import BYTES_IN_PATTERN, FOLDERS, LONGEST, fields, fill, safe, version
from tests.strategies import LONGEST_TASK_ID, anything, lines, remotes, task_ids

extensions = st.from_regex(r"\.[a-z0-9]{1,8}", fullmatch=True)
batches = st.just("") | lines
_heads = st.sampled_from(["{task_id}", "{remote}", "{batch}", "a", "_", " ", "x" * 50])
_pieces = st.sampled_from(["{task_id}", "{remote}", "{batch}", "{ext}", "a", "-", ".", "_", " ", "x" * 50])
_parts = st.tuples(_heads, _pieces | st.just(""), _pieces | st.just("")).map("".join)
patterns = st.lists(_parts, min_size=1, max_size=3).map("/".join)
"""Patterns that are accepted, whatever they look like."""
task_patterns = patterns.map(lambda pattern: pattern if "{task_id}" in pattern else f"{{task_id}}/{pattern}")


def _values(task_id: str, remote: str = "grafx", batch: str = "") -> dict[str, str]:
    return {"task_id": task_id, "remote": remote, "batch": batch}


def _is_sound(name: str) -> bool:
    """Tell whether *name* is relative, in sight, and fit for any file system."""
    parts = name.split("/")
    return all(
        part not in {"", ".", ".."}
        and part[0] not in ".-"
        and part.isascii()
        and part.isprintable()
        and len(part) <= LONGEST
        for part in parts
    )


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{task_id}{ext}", {"task_id", "ext"}),
        ("{remote}/{batch}/{task_id}{ext}", {"remote", "batch", "task_id", "ext"}),
        ("order {task_id}.pdf", {"task_id"}),
        ("plain", set()),
        ("{task_id}-{task_id}", {"task_id"}),
        ("a.b/c_d=e@f-g/{task_id}.{ext}", {"task_id", "ext"}),
        ("x" * BYTES_IN_PATTERN, set()),
        ("a/" * FOLDERS + "b", set()),
        ("{batch}{ext}", {"batch", "ext"}),
    ],
)
def test_good_patterns_tell_their_fields(pattern: str, found: set[str]) -> None:
    """A pattern that names a file inside the folder is taken."""
    assert fields(pattern) == found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "1 to 400 bytes"),
        ("x" * (BYTES_IN_PATTERN + 1), "1 to 400 bytes"),
        ("a/" * (FOLDERS + 1) + "b", "at most 8 folders"),
        ("/{task_id}", "absolute"),
        ("{task_id}/", "absolute"),
        ("a//b", "absolute"),
        ("../{task_id}", "climb"),
        ("a/../b", "climb"),
        ("./a", "climb"),
        (".hidden", "begin with a dot"),
        ("a/.partial", "begin with a dot"),
        ("-rf", "a dash"),
        ("{ext}", "{ext}"),
        ("{ext}{task_id}", "{ext}"),
        ("a/{ext}", "{ext}"),
        ("{taskid}", "unknown field {taskid}"),
        ("{}", "unknown field {}"),
        ("{task_id!r}", "unknown field {task_id!r}"),
        ("{task_id.__class__}", "unknown field"),
        ("{TASK_ID}", "unknown field"),
        ("{{task_id}}", "takes letters"),
        ("{task_id", "takes letters"),
        ("task_id}", "takes letters"),
        ("a~b", "takes letters"),
        ("a%2eb", "takes letters"),
        ("a\\b", "takes letters"),
        ("a\nb", "takes letters"),
        ("a\0b", "takes letters"),
        ("ä", "takes letters"),
        ("\ud800", "takes letters"),
        ("a:b", "takes letters"),
    ],
)
def test_bad_patterns_say_why(pattern: str, why: str) -> None:
    """A pattern that climbs, hides, is absolute, or holds what no name of ours may hold is refused with its reason."""
    with pytest.raises(ValueError, match=r".") as caught:
        fields(pattern)
    assert why in str(caught.value)


@given(
    anything | st.text("{}/.-~ %ab", max_size=12) | st.lists(_pieces | st.just("/"), max_size=6).map("".join),
    task_ids,
    batches,
)
def test_no_pattern_that_is_taken_does_harm(pattern: str, task_id: str, batch: str) -> None:
    """Any text at all is either refused with a ValueError of ours, or makes a sound name."""
    try:
        fields(pattern)
    except ValueError as error:
        assert "file name" in str(error) or "unknown field" in str(error)  # noqa: PT017 - it need not come
    else:
        assert _is_sound(fill(pattern, _values(task_id, batch=batch), ".pdf"))


# --- names


@given(pattern=patterns, task_id=task_ids, remote=remotes, batch=batches, ext=extensions)
def test_every_name_is_sound_and_stays_in_the_folder(
    pattern: str, task_id: str, remote: str, batch: str, ext: str
) -> None:
    """Whatever the pattern and the task ID, the name is relative, in sight, short enough, and inside the folder."""
    assert fields(pattern) <= {"task_id", "remote", "batch", "ext"}
    name = fill(pattern, _values(task_id, remote, batch), ext)
    assert _is_sound(name)
    assert name.count("/") == pattern.count("/")
    assert os.path.normpath(f"/orders/{name}") == f"/orders/{name}"
    assert PurePosixPath("/orders", name).is_relative_to("/orders")


@given(pattern=task_patterns, one=task_ids, other=task_ids, batch=batches, ext=extensions)
def test_different_task_ids_have_different_names(pattern: str, one: str, other: str, batch: str, ext: str) -> None:
    """A pattern with the task ID in it never gives two orders one name."""
    assume(one != other)
    assert fill(pattern, _values(one, batch=batch), ext) != fill(pattern, _values(other, batch=batch), ext)


CLOSE = [
    "a",
    "A",
    "a ",
    "a%20",
    "%61",
    ".a",
    "%2Ea",
    "%2ea",
    "-a",
    "%2Da",
    "a/b",
    "a%2Fb",
    "a\\b",
    "a~2",
    "é",
    "e\u0301",
]
CLOSE += [
    "x" * 150,
    "x" * 151,
    "x" * 151 + "y",
    "x" * 512,
    "x" * 511 + "y",
    "😀" * 128,
    "😀" * 127 + "😁",
    "_",
    "%",
    "%%",
]


@pytest.mark.parametrize("pattern", ["{task_id}{ext}", "{task_id}", "{task_id}/{task_id}", "a{task_id}b.{ext}"])
def test_task_ids_that_look_alike_are_kept_apart(pattern: str) -> None:
    """Case, encodings, look-alikes and long common beginnings do not run together."""
    names = {fill(pattern, _values(task_id), ".pdf") for task_id in CLOSE}
    assert len(names) == len(CLOSE)


@given(one=task_ids, other=task_ids, ext=extensions, another=extensions)
def test_an_extension_does_not_make_two_names_one(one: str, other: str, ext: str, another: str) -> None:
    """Files of different types and different tasks have different names, too."""
    assume(one != other)
    pattern = "{task_id}{ext}"
    assert fill(pattern, _values(one), ext) != fill(pattern, _values(other), another)


@given(one=lines, other=lines)
def test_different_values_are_encoded_differently(one: str, other: str) -> None:
    """Encoding can be undone, so no two values become one."""
    assert (safe(one) == safe(other)) == (one == other)


@pytest.mark.parametrize(
    ("task_id", "name"),
    [
        ("84ad7436-1b2c", "84ad7436-1b2c.pdf"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.pdf"),
        ("..", "%2E..pdf"),
        (".", "%2E.pdf"),
        ("-rf", "%2Drf.pdf"),
        ("a b", "a%20b.pdf"),
        ("a\0b\n", "a%00b%0A.pdf"),
        ("..\\..\\evil.exe", "%2E.%5C..%5Cevil.exe.pdf"),
        ("Zoë", "Zo%C3%AB.pdf"),
        ("{ext}", "%7Bext%7D.pdf"),
        ("a~2", "a%7E2.pdf"),
        ("A.Z_0=9@x-y", "A.Z_0=9@x-y.pdf"),
        ("\ud800", "%ED%A0%80.pdf"),
        ("gid://shopify/Order/1?x=1", "gid%3A%2F%2Fshopify%2FOrder%2F1%3Fx=1.pdf"),
    ],
)
def test_names_as_promised(task_id: str, name: str) -> None:
    """What is harmless stays legible, and the rest is percent-encoded, a leading dot or dash as well."""
    assert fill("{task_id}{ext}", _values(task_id), ".pdf") == name


def test_fields_are_filled_once() -> None:
    """A value that looks like a field is a value."""
    assert fill("{batch}/{task_id}", _values("{batch}", batch="{task_id}"), ".pdf") == "%7Btask_id%7D/%7Bbatch%7D"


def test_an_absent_batch_has_a_name() -> None:
    """An order without a batch lies in a folder of its own, and makes no path absolute, empty or hidden."""
    assert fill("{batch}/{task_id}{ext}", _values("a"), ".pdf") == "_/a.pdf"
    assert fill("{batch}{ext}", _values("a"), ".pdf") == "_.pdf"


@given(task_id=st.integers(LONGEST + 1, LONGEST_TASK_ID).map("x".__mul__), ext=extensions)
def test_long_names_keep_their_extension(task_id: str, ext: str) -> None:
    """A shortened name is as long as allowed, ends in a digest, and in its extension after that."""
    name = fill("{task_id}{ext}", _values(task_id), ext)
    assert len(name) == LONGEST
    stem = name.removesuffix(ext)
    assert stem != name
    head, _, digest = stem.rpartition("~")
    assert (set(head), len(digest)) == ({"x"}, 32)


def test_a_name_is_shortened_only_when_it_must_be() -> None:
    """Exactly 150 bytes are kept as they are; one more is not."""
    assert fill("{task_id}", _values("x" * LONGEST), ".pdf") == "x" * LONGEST
    assert "~" in fill("{task_id}", _values("x" * (LONGEST + 1)), ".pdf")


def test_a_shortened_name_without_extension_field_has_none() -> None:
    """Where the pattern does not end in the extension, the digest comes last."""
    assert fill("{task_id}{ext}x", _values("x" * 200), ".pdf")[-33] == "~"


# --- versions


@pytest.mark.parametrize(
    ("name", "number", "versioned"),
    [
        ("a/b.pdf", 2, "a/b~2.pdf"),
        ("b", 3, "b~3"),
        ("a.b/c", 2, "a.b/c~2"),
        ("a/b.tar.gz", 10, "a/b.tar~10.gz"),
        ("%2E.pdf", 2, "%2E~2.pdf"),
        (".pdf", 2, ".pdf~2"),
    ],
)
def test_versions_are_numbered_before_the_extension(name: str, number: int, versioned: str) -> None:
    """The next version of a file opens with the same program."""
    assert version(name, number) == versioned


@given(pattern=patterns, one=task_ids, other=task_ids, number=st.integers(2, 1000), ext=extensions)
def test_a_version_is_nobody_elses_name(pattern: str, one: str, other: str, number: int, ext: str) -> None:
    """No order's own name, shortened or not, is another's version; and a version is as sound as a name."""
    name, plain = fill(pattern, _values(one), ext), fill(pattern, _values(other), ext)
    assert version(name, number) != plain
    assert PurePosixPath(version(name, number)).parent == PurePosixPath(name).parent
    assert max(map(len, version(name, number).split("/"))) <= 255


def test_versions_of_different_files_differ() -> None:
    """Numbering never makes one name of two."""
    names = ["a.pdf", "a", "a.b.pdf", "b/a.pdf", fill("{task_id}", _values("x." * 200), ".pdf")]
    versions = [version(name, number) for name, number in itertools.product(names, range(2, 30))]
    assert len(set(versions)) == len(versions)


# --- on a real disk


@given(task_id=task_ids, batch=batches)
def test_a_real_file_system_takes_every_name(
    tmp_path_factory: pytest.TempPathFactory, task_id: str, batch: str
) -> None:
    """A file of the name can be made, is found under it, and under nothing else."""
    folder = tmp_path_factory.mktemp("orders")
    name = version(fill("{batch}/{task_id}{ext}", _values(task_id, batch=batch), ".pdf"), 2)
    path = folder / name
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert [str(Path(found).relative_to(folder)) for found in folder.rglob("*") if found.is_file()] == [name]
