"""The pages that are shipped, against the replies that each of them brings as examples."""

import pytest

from poller import remotes
from poller.remotes.example import failures


@pytest.mark.parametrize("name", remotes.shipped())
def test_a_page_s_examples_come_out_as_they_say(name: str) -> None:
    """Every page has examples, and understands the replies in them."""
    page = remotes.page(name)
    assert page.examples
    assert list(failures(page)) == []


@pytest.mark.parametrize("name", remotes.shipped())
def test_a_page_says_where_it_is_from(name: str) -> None:
    """Whoever doubts a page can look up what it was made of; a setting says what it is for."""
    page = remotes.page(name)
    assert page.name == name
    assert "Source: " in page.source or "documentation" in page.source
    assert all(variable.why.endswith(".") for variable in page.settings.values())
