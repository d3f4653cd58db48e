"""Nothing that must not be said is said, whatever it is wrapped in."""

import html
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.redact import MASK, Redactor
from tests.strategies import anything

CANARY = "c4n4ry-S3CRET"
ODD = "p/w +&=\"'\\<é>😀%?#@:c4n4ry"
"""A password that every encoding writes in its own way."""

texts = anything | st.text(f"{CANARY}{MASK} \n\0/?#@:\"'\\", max_size=60)
READ = 2**16
"""Characters that are looked at."""
DIRECTIONS = {"RLO", "LRO", "RLE", "LRE", "PDF", "LRI", "RLI", "FSI", "PDI"}
redact = Redactor([CANARY])


# --- secrets


@given(before=texts, after=texts, limit=st.integers(1, 80))
def test_a_secret_survives_in_no_text(before: str, after: str, limit: int) -> None:
    """Whatever stands around it and wherever the text is cut, no secret is said, neither in a line nor in a text."""
    text = f"{before}{CANARY}{after}"
    assert CANARY not in redact(text, limit=limit)
    assert CANARY not in redact.mask(text)


@pytest.mark.parametrize("filler", ["\n", "x", " ", "\n\n\n x", "http://h/?xxxx ", "?a=b ", "Bearer abcdefgh "])
@pytest.mark.parametrize("limit", [30, 500])
def test_no_part_of_a_secret_is_said_where_a_text_is_cut(filler: str, limit: int) -> None:
    """A secret on the edge of what fits is masked before anything is cut, so that not even its beginning is left."""
    for length in (*range(limit - 20, limit + 2), *range(4 * limit - 20, 4 * limit, 3), *range(READ - 20, READ, 3)):
        padding = (filler * (length // len(filler) + 1))[:length]
        said = redact(f"{padding}{CANARY} tail", limit=limit)
        assert len(said) <= limit
        assert CANARY[:4] not in said


def _quoted(safe: str) -> Callable[[str], str]:
    return lambda secret: quote(secret.encode("utf-8", "surrogatepass"), safe=safe)


ECHOES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "path": _quoted("/"),
    "letter": _quoted(""),
    "encodeURIComponent": _quoted("!'()*"),
    "encodeURI": _quoted(";,/?:@&=+$#!'()*"),
    "form": lambda secret: quote_plus(secret.encode("utf-8", "surrogatepass")),
    "lower-case hex": lambda secret: re.sub("%..", lambda byte: byte[0].lower(), ECHOES["letter"](secret)),
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "JSON by PHP": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "HTML": html.escape,
}


@pytest.mark.parametrize(
    "secret", [ODD, CANARY, "a+b/c=d==", "tilde~under_score.dot-dash", "ключ-от-дома", "\ud800key!"]
)
@pytest.mark.parametrize("echo", ECHOES)
def test_a_secret_is_known_in_every_usual_disguise(echo: str, secret: str) -> None:
    """Remotes echo what they were sent in addresses, forms, JSON and pages; nothing of it is left."""
    assert Redactor([secret]).mask(f"<{ECHOES[echo](secret)}> was sent") == f"<{MASK}> was sent"


@pytest.mark.parametrize(("inner", "outer"), [("secret", "secret-and-more"), ("more!", "secret-and-more!")])
def test_a_secret_within_a_secret_leaves_nothing_standing(inner: str, outer: str) -> None:
    """The longer secret goes first, in whichever order they were given."""
    for secrets in ([inner, outer], [outer, inner]):
        assert Redactor(secrets).mask(f"<{outer}|{inner}>") == f"<{MASK}|{MASK}>"


def test_a_secret_is_masked_before_and_after_a_link_is_cut() -> None:
    """A link is cut by signs that a secret may hold; neither loses a part of it, nor puts one together."""
    assert Redactor(["pass/w?rd@x#y"]).mask("https://h.example/t/pass/w?rd@x#y/f") == f"https://h.example/t/{MASK}/f"
    assert Redactor(['ab"cd']).mask('ab?x=1"cd') == MASK


def test_short_secrets_are_words() -> None:
    """Three characters or none are not masked: every other word would be."""
    careful = Redactor(["", "a", "and"])
    careful.learn("the")
    assert careful("the cat and a dog") == "the cat and a dog"


def test_a_secret_that_a_blank_would_make_whole_is_masked() -> None:
    """A control character becomes a blank, and what that makes whole is masked as well."""
    assert Redactor(["pass phrase"])("my pass\x00phrase!") == f"my {MASK}!"
    assert redact("Bearer\x00abcdefghijkl") == f"Bearer {MASK}"


# --- tokens


def test_a_token_is_masked_from_when_it_is_learned() -> None:
    """What was issued to us is a secret from then on, in every disguise."""
    learning = Redactor()
    assert learning("token abc/def!") == "token abc/def!"
    learning.learn("abc/def!")
    assert learning("token abc/def! abc%2Fdef%21") == f"token {MASK} {MASK}"


def test_the_last_hundred_tokens_are_remembered() -> None:
    """Tokens that have long expired are forgotten; configured secrets never are."""
    learning = Redactor([CANARY])
    for number in range(101):
        learning.learn(f"token-{number:03}")
    assert learning("token-000") == "token-000"
    for number in range(1, 101):
        assert learning(f"token-{number:03}") == MASK
    assert learning(CANARY) == MASK


def test_a_token_that_is_issued_again_is_new() -> None:
    """A token endpoint that gives out the same token again does not let it be forgotten."""
    learning = Redactor()
    learning.learn("long-lived")
    for number in range(98):
        learning.learn(f"token-{number:03}")
        learning.learn("long-lived")
    learning.learn("one-more")
    assert learning("long-lived token-000") == f"{MASK} {MASK}"
    learning.learn("and-another")
    assert learning("long-lived token-000") == f"{MASK} token-000"


# --- addresses and headers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("GET https://u:pw@h.example/f?sig=x#y failed", "GET https://h.example/f failed"),
        ('{"url":"https://h.example/f?sig=x"}', '{"url":"https://h.example/f"}'),
        (r'{"url":"https:\/\/u:pw@h.example\/f?sig=x\u0026y=z"}', r'{"url":"https:\/\/h.example\/f"}'),
        ("see //h.example/f?sig=x now", "see //h.example/f now"),
        ("//u:pw@h.example/f", "//h.example/f"),
        ("s3://bucket/key?X-Amz-Signature=x", "s3://bucket/key"),
        ("postgresql://u:pw@db/poller", "postgresql://db/poller"),
        ("1https://u:pw@h.example", "1https://h.example"),
        ("no signature in /files/1?sig=x, sorry", "no signature in /files/1 sorry"),
        ("<a href='https://h.example/?a'>", "<a href='https://h.example/'>"),
        ("is it 3 // 2? I ask", "is it 3 // 2? I ask"),
        ("what? why?", "what? why?"),
        ("a=b?", "a=b?"),
        ("me@h.example wrote", "me@h.example wrote"),
        ("Authorization: Bearer abc.def-ghi_jkl=", f"Authorization: Bearer {MASK}"),
        ("authorization: basic dXNlcjpwYXNz", f"authorization: basic {MASK}"),
        ("Bearer%20abcdefghij", f"Bearer%20{MASK}"),
        ("BEARER:  abcdefghij", f"BEARER:  {MASK}"),
        ("Bearer abc", "Bearer abc"),
        ("forbearer abcdefghij", "forbearer abcdefghij"),
    ],
)
def test_links_and_headers_lose_what_is_secret_in_them(text: str, said: str) -> None:
    """Queries, users and tokens go although nobody told us that they are secret; the rest stays legible."""
    assert redact(text) == said


@given(query=st.text(st.characters(codec="ascii", exclude_characters="\"'<> ", min_codepoint=33), min_size=1))
def test_no_query_of_a_link_is_said(query: str) -> None:
    """A signed link's query is a credential."""
    assert redact(f"GET https://h.example/f?{query} failed").split() in (
        ["GET", "https://h.example/f", "failed"],
        ["GET", "https://h.example/f\x7f", "failed"],
    )


# --- lines


@given(text=texts, limit=st.integers(1, 600))
def test_what_is_said_is_one_printable_line(text: str, limit: int) -> None:
    """No control character, separator, direction mark or half character is left, and nothing is too long."""
    said = redact(text, limit=limit)
    assert len(said) <= limit
    assert len(said.splitlines()) <= 1
    assert said == said.strip()
    assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(sign) for sign in said}
    assert not DIRECTIONS & set(map(unicodedata.bidirectional, said))
    said.encode()


def test_no_sign_that_steers_a_terminal_is_said() -> None:
    """Every control character, separator, direction mark and half character becomes a blank."""
    steering = [
        sign
        for sign in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(sign) in DIRECTIONS
        or sign in "\u061c\u200e\u200f"
    ]
    assert len(steering) > 2000
    assert all(redact(f"a{sign}b") == "a b" for sign in steering)
    assert redact(f"a{''.join(steering)}b") == "a b"


@given(text=texts, limit=st.integers(1, 600))
def test_saying_twice_is_saying_once(text: str, limit: int) -> None:
    """What was made fit stays as it is, however often it passes."""
    once = redact(text, limit=limit)
    assert redact(once, limit=limit) == once
    assert redact(once, limit=10**6) == once


@given(st.text(st.characters(categories=["L", "N"], include_characters=" ,.;!-")))
def test_plain_words_are_left_as_they_are(text: str) -> None:
    """A reason in any language, without links and secrets, is said word for word."""
    assert redact(text, limit=10**6) == text.strip()


def test_a_long_line_shows_that_it_was_cut() -> None:
    """The last of the allowed characters is an ellipsis, and only if something is missing."""
    assert redact("x" * 500) == "x" * 500
    assert redact("x" * 501) == "x" * 499 + "…"
    assert redact("\n" * READ + "x" * 501) == "…"
    assert redact("x" * READ, limit=READ) == "x" * READ


def test_a_text_may_keep_its_lines() -> None:
    """A traceback is masked without being made one line."""
    assert redact.mask(f"one\n  {CANARY}\ttwo\r\n") == f"one\n  {MASK}\ttwo\r\n"


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "piece",
    [
        "a.",
        "a-",
        "/",
        "?",
        "?a",
        "http://",
        "//a@",
        "Bearer ",
        "Bearer:",
        "Bearer",
        "%20",
        " ",
        "\n",
        "\0",
        "@",
        CANARY,
        "a" * 9,
    ],
)
def test_a_long_text_is_masked_in_time_that_grows_with_its_length(piece: str) -> None:
    """A hostile megabyte stops nothing: no pattern of ours looks at a place again and again."""
    text = piece * (2**20 // len(piece))
    for head in ("Bearer", "x?", "x://"):
        assert CANARY not in redact.mask(f"{head}{text}")
        assert len(redact(f"{head}{text}")) <= 500


@pytest.mark.parametrize(
    "text",
    [
        "https%3A%2F%2Fh%2Ff%3FX-Amz-Signature%3DCANARY%26x",
        "X-Amz-Credential=CANARY&X-Amz-Signature=CANARY",
        'https://h/f?a="b c"&X-Goog-Signature=CANARY',
        "broken off: &sig=CANARY&se=1",
    ],
)
def test_what_is_left_of_a_signed_link_is_masked(text) -> None:
    """A link need not be whole, nor be written plainly, for its signature to open something."""
    assert "CANARY" not in Redactor()(text)
