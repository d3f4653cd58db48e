"""Addresses: whose they are, whether they may be dialled, and how they may be named."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from yarl import URL

from poller.address import Origin, bare, is_public
from tests.strategies import anything

# --- origins


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://grafx.example", ("https", "grafx.example", 443)),
        ("HTTPS://GraFx.EXAMPLE/Path", ("https", "grafx.example", 443)),
        ("http://grafx.example/", ("http", "grafx.example", 80)),
        ("https://grafx.example:443/", ("https", "grafx.example", 443)),
        ("https://grafx.example:8443/", ("https", "grafx.example", 8443)),
        ("https://grafx.example:00443", ("https", "grafx.example", 443)),
        ("https://grafx.example:/", ("https", "grafx.example", 443)),
        ("http://grafx.example:443?x", ("http", "grafx.example", 443)),
        ("http://localhost:8080#f", ("http", "localhost", 8080)),
        ("http://my_service:80/", ("http", "my_service", 80)),
        ("http://127.0.0.1:65535/", ("http", "127.0.0.1", 65535)),
        ("http://[::1]:8080/", ("http", "::1", 8080)),
        ("http://[0:0::0:1]/", ("http", "::1", 80)),
        ("http://[FE80::A]/", ("http", "fe80::a", 80)),
        ("https://xn--bcher-kva.example/", ("https", "xn--bcher-kva.example", 443)),
        ("https://a.example/@b", ("https", "a.example", 443)),
        ("https://a.example?u=x@b.example:8", ("https", "a.example", 443)),
        ("https://a.example/x//y\\z", ("https", "a.example", 443)),
        ("https://1e100.net/", ("https", "1e100.net", 443)),
        ("https://0x.example/", ("https", "0x.example", 443)),
    ],
)
def test_origins_of_plain_addresses(url: str, origin: tuple[str, str, int]) -> None:
    """Scheme, host and port are read in one spelling, whatever the case and the default port."""
    assert Origin.of(url) == origin


ODD = [
    "",
    "grafx.example",
    "//grafx.example/",
    "/tasks/1",
    "https:",
    "https://",
    "https:///tasks",
    "https:/grafx.example/",
    "https:grafx.example",
    "https:\\\\grafx.example/",
    "https:/\\grafx.example/",
    "https://\\grafx.example/",
    "ftp://grafx.example/",
    "file:///etc/passwd",
    "data:text/plain,x",
    "javascript:alert(1)",
    "httpss://grafx.example",
    "https ://grafx.example",
    " https://grafx.example/",
    "https://grafx.example/ ",
    "https://grafx.example/a b",
    "https://grafx\t.example/",
    "ht\ntps://grafx.example/",
    "https://grafx.example/\r\nX-Evil: 1",
    "https://grafx.example/\x00",
    "https://grafx.example\x7f/",
    "https://user@grafx.example/",
    "https://user:pw@grafx.example/",
    "https://@grafx.example/",
    "https://grafx.example@evil.example/",
    "https://grafx.example\\@evil.example/",
    "https://evil.example\\.grafx.example/",
    "https://grafx.example:80@evil.example/",
    "https://grafx.example\uff20evil.example/",
    "https://grafx.example./",
    "https://.grafx.example/",
    "https://grafx..example/",
    "https://b\u00fccher.example/",
    "https://grafx\u3002example/",
    "https://\uff47rafx.example/",
    "https://graf%78.example/",
    "https://grafx.example%00.evil.example/",
    "https://grafx.example,evil.example/",
    "https://*.example/",
    "https://2130706433/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0177.0.0.1/",
    "https://0x7f.0.0.1/",
    "https://0x7f000001/",
    "https://0X7F000001/",
    "https://127.0.0.0x1/",
    "https://127.0.0.1.2/",
    "https://256.0.0.1/",
    "https://grafx.123/",
    "https://0x/",
    "https://[::1/",
    "https://::1/",
    "https://[::1]evil.example/",
    "https://evil.example[::1]/",
    "https://[127.0.0.1]/",
    "https://[grafx.example]/",
    "https://[v1.x]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[]/",
    "https://grafx.example:0/",
    "https://grafx.example:65536/",
    "https://grafx.example:999999/",
    "https://grafx.example:-1/",
    "https://grafx.example:+443/",
    "https://grafx.example:4 43/",
    "https://grafx.example:80:80/",
    "https://grafx.example:\u0664\u0664/",
    "https://grafx.example:http/",
    "https://:443/",
    "https://\ud800/",
]


@pytest.mark.parametrize("url", ODD)
def test_odd_addresses_have_no_origin(url: str) -> None:
    """What two programs might read differently is refused before anybody dials it."""
    with pytest.raises(
        ValueError, match=r"^(an address|there is no port|Expected|Only|Octet|Leading|At |.*octet)"
    ) as caught:
        Origin.of(url)
    assert "pw" not in str(caught.value)


@given(anything | st.text("htps:/\\@.[]%0x1a?# \t\n", max_size=20).map("https://".__add__) | st.sampled_from(ODD))
def test_an_origin_is_what_will_be_dialled(url: str) -> None:
    """Whenever an origin is read, the client that dials reads the same scheme, host and port."""
    try:
        origin = Origin.of(url)
    except ValueError:
        return
    dialled = URL(url, encoded=True)
    host = dialled.host or ""
    assert (origin.scheme, origin.port) == (dialled.scheme, dialled.port)
    assert origin.host == (str(ipaddress.ip_address(host)) if ":" in host else host.lower())
    parts = urlsplit(url)
    assert (parts.username, parts.password) == (None, None)


hosts = st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z][a-z0-9_-]{0,8}){0,2}", fullmatch=True)
hosts |= st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda ip: f"[{ip}]")


@given(scheme=st.sampled_from(["http", "https"]), host=hosts, port=st.none() | st.integers(1, 65535))
def test_an_origin_is_written_as_it_is_read(scheme: str, host: str, port: int | None) -> None:
    """The text of an origin is an address of that origin, and names no default port."""
    url = f"{scheme}://{host}" + ("" if port is None else f":{port}")
    origin = Origin.of(url)
    assert Origin.of(str(origin)) == origin
    assert Origin.of(f"{url.upper()}/Any?thing#here") == origin
    assert str(Origin.of(f"{scheme}://{host}")) == f"{scheme}://{host}"


def test_scheme_and_port_make_another_origin() -> None:
    """What is bound to one origin is not sent to the same host in another way."""
    urls = [
        "https://a.example",
        "http://a.example",
        "https://a.example:8443",
        "http://a.example:443",
        "https://b.example",
    ]
    assert len({Origin.of(url) for url in urls}) == len(urls)


# --- names of addresses

CANARY = "hunter2"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.example/f/1.pdf", "https://a.example/f/1.pdf"),
        ("https://a.example", "https://a.example"),
        ("https://a.example?sig=hunter2", "https://a.example"),
        ("https://a.example/f?sig=hunter2&x=1#y", "https://a.example/f"),
        ("https://a.example/f#hunter2?x", "https://a.example/f"),
        ("https://u:hunter2@a.example:8443/f", "https://a.example:8443/f"),
        ("https://hunter2@a.example", "https://a.example"),
        ("https://u:hunter2@x@a.example/f", "https://a.example/f"),
        ("https://a.example/@scope/pkg", "https://a.example/@scope/pkg"),
        ("https://a.example/image@2x.png", "https://a.example/image@2x.png"),
        ("/f?sig=hunter2", "/f"),
        ("/users/a@b/f", "/users/a@b/f"),
        ("f@2x.png", "f@2x.png"),
        ("//u:hunter2@a.example/f?x", "//a.example/f"),
        ("https:\\\\u:hunter2@a.example\\f", "https:\\\\a.example\\f"),
        ("https:/\\u:hunter2@a.example", "https:/\\a.example"),
        ("https:/u:hunter2@a.example/f", "https:/a.example/f"),
        ("https:u:hunter2@a.example/f", "https:a.example/f"),
        ("https:////u:hunter2@a.example/f", "https:////a.example/f"),
        ("ht\ntps:/\r/\tu:hunt\ner2@a.example/f", "https://a.example/f"),
        ("view-source:https://u:hunter2@a.example/f", "view-source:https://a.example/f"),
        (" https://u:hunter2@a.example/f", " https://a.example/f"),
        ("1https://u:hunter2@a.example/f", "1https://a.example/f"),
        ("https://a.example\\@hunter2.example/", "https://a.example\\@hunter2.example/"),
        ("https://u:hunter2@[::1]:80/f", "https://[::1]:80/f"),
        ("https://hunter2@/f", "https://f"),
        ("x:/hunter2@/hunter2@a/f", "x:/a/f"),
        ("", ""),
        ("?hunter2", ""),
    ],
)
def test_addresses_are_named_without_what_is_secret(url: str, name: str) -> None:
    """User, query and fragment go, for whatever reader they are one; scheme, host, port and path stay."""
    assert bare(url) == name
    assert CANARY not in name or "\\@" in name


plain = st.text(st.characters(codec="ascii", exclude_characters="/?#\\@\t\r\n"), max_size=12)


@given(user=plain, password=plain, path=plain, query=anything, fragment=anything)
def test_everything_but_user_query_and_fragment_is_kept(
    user: str, password: str, path: str, query: str, fragment: str
) -> None:
    """Of a whole address exactly scheme, host, port and path are left."""
    url = f"https://{user}:{password}@a.example:8443/{path}?{query}#{fragment}"
    assert bare(url) == f"https://a.example:8443/{path}"


@given(anything | st.text("ab:/\\@?#\t\n[]", max_size=24))
def test_no_text_lets_a_user_a_query_or_a_fragment_through(text: str) -> None:
    """Whatever the text, as an address its name has neither user nor query nor fragment; and it is final."""
    name = bare(text)
    assert not set("?#") & set(name)
    assert bare(name) == name
    try:
        parts = urlsplit(name)
    except ValueError:
        return
    assert (parts.query, parts.fragment) == ("", "")
    assert "@" not in parts.netloc


@given(before=st.text("ab:/\\@\t\n", max_size=12), after=st.text("ab:/\\@?#\t\n", max_size=12))
def test_a_user_after_two_slashes_never_gets_through(before: str, after: str) -> None:
    """Wherever in a text a host may begin, what stands between there and an at sign is cut."""
    assume(not after.startswith(("/", "\\")))
    assert CANARY not in bare(f"{before}//{CANARY}@{after}")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["/", "\\/", "@", "a@", "//@", "//a", ":", "a:", "\t", "a@/", "//a@/"])
def test_a_long_address_is_named_in_time_that_grows_with_its_length(piece: str) -> None:
    """No address is so odd that a megabyte of it stops everything else."""
    for head in ("", "https://", "x:"):
        assert "?" not in bare(head + piece * (2**20 // len(piece)) + "b?c")


# --- what may be dialled


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "1.1.1.1",
        "93.184.215.14",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "169.253.255.255",
        "192.0.1.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450:4001::1",
        "2606:4700::1%eth0",
        "::ffff:8.8.8.8",
        "::ffff:808:808",
        "2002:808:808::1",
        "64:ff9b::8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_global_unicast_may_be_dialled(host: str) -> None:
    """What anybody on the internet may reach, a remote may send us to."""
    assert is_public(host)


INNER = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104 - nobody listens here
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fd00:ec2::254"],
    "link-local, metadata": ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fe80::1%1"],
    "shared by carriers": ["100.64.0.1", "100.100.100.200", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.88.99.1"],
    "wire server": ["168.63.129.16"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "site-local": ["fec0::1"],
    "discard, dummy": ["100::1", "100:0:0:1::1"],
    "not given out": ["5f00::1", "4000::1", "e000::1", "::2", "1::1"],
    "Teredo, ORCHID": ["2001::1", "2001:0:808:808::1", "2001:10::1"],
    "IPv4 mapped": ["::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0"],
    "IPv4 compatible": ["::127.0.0.1", "::7f00:1", "::8.8.8.8"],
    "IPv4 translated": ["::ffff:0:7f00:1", "::ffff:0:808:808"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "2002:c0a8:1::"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::808:808"],
    "multicast inside": ["::ffff:224.0.0.1", "2002:e000:1::", "64:ff9b::224.0.0.1"],
    "reserved inside": ["::ffff:192.0.0.192", "64:ff9b::168.63.129.16", "2002:c000:c0::"],
    "no address": ["", "localhost", "example.com", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "8.8.8.8.", "[::1]"],
    "no address either": ["8.8.8.8:80", " 8.8.8.8", "8.8.8", "::g", "%eth0", "\uff18.8.8.8", "8.8.8.8\n", "\ud800"],
}


@pytest.mark.parametrize(("kind", "host"), [(kind, host) for kind, hosts in INNER.items() for host in hosts])
def test_nothing_else_may_be_dialled(kind: str, host: str) -> None:
    """Inner, special and unreadable addresses are refused, however they are wrapped."""
    assert not is_public(host), kind


wraps = st.sampled_from([0xFFFF << 32, 0x64FF9B << 96])


@given(inner=st.ip_addresses(v=4), wrap=wraps)
def test_wrapped_addresses_are_judged_by_what_they_mean(inner: ipaddress.IPv4Address, wrap: int) -> None:
    """IPv4 inside IPv6 is as public as it is by itself."""
    assert is_public(str(ipaddress.IPv6Address(wrap | int(inner)))) == is_public(str(inner))
    assert is_public(str(ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80 | 1))) == is_public(str(inner))


@given(st.ip_addresses())
def test_only_global_addresses_are_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """What Python's own table calls local, reserved or multicast is never public."""
    meant = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    if is_public(str(address)):
        assert meant.is_global or meant in ipaddress.ip_network("64:ff9b::/96")
        for flaw in ("is_multicast", "is_loopback", "is_unspecified", "is_link_local"):
            assert not getattr(address, flaw)


@given(anything)
def test_no_text_breaks_the_judgement(text: str) -> None:
    """What is no address is not public."""
    assert not is_public(text)
