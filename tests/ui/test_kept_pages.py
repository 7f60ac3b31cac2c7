"""A page is made once for all who ask, until what it tells of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sentinel.ui.kept_pages import KeptPages
from sentinel.ui.news import News
from sentinel.ui.pages import Page, Part, asked


def making(watches: str) -> tuple[list[str], Callable[[], Page]]:
    """What makes a page, and a note each time it did."""
    made: list[str] = []

    def make() -> Page:
        made.append(watches)
        return Page("a page", "runs", (Part("all", f"<p>{len(made)}</p>"),), watches)

    return made, make


@pytest.mark.parametrize(
    ("watches", "changes", "count"),
    [("a", ("b",), 1), ("a", ("a", "b"), 2), ("*", ("b",), 2), ("", ("a",), 1)],
)
def test_many_who_ask_make_one_page(watches, changes, count):
    """Twenty tabs at once, and again after runs changed: only its own change makes it anew."""
    made, make = making(watches)

    async def ask() -> None:
        news = News()
        pages = KeptPages(news)
        await asyncio.gather(*(pages.page("/", make) for _ in range(20)))
        await news.publish(changes)
        kept = await asyncio.gather(*(pages.page("/", make) for _ in range(20)))
        assert {one.page.parts[0].html for one in kept} == {f"<p>{count}</p>"}

    asyncio.run(ask())
    assert len(made) == count


def test_a_change_while_a_page_is_made_is_not_lost():
    """The page is dated by the moment it was asked for: it is made again."""
    news = News()

    async def ask() -> int:
        loop = asyncio.get_running_loop()
        pages = KeptPages(news)
        made, make = making("a")

        def slow() -> Page:
            page = make()
            asyncio.run_coroutine_threadsafe(news.publish(["a"]), loop).result(timeout=30)
            return page

        kept = await pages.page("/", slow)
        assert kept.since == f"{news.boot}-0"
        await pages.page("/", make)
        return len(made)

    assert asyncio.run(ask()) == 2


def test_a_page_that_cannot_be_made_is_asked_again():
    """An error is told to who asked, and kept for nobody."""

    def fail() -> Page:
        raise OSError

    async def ask() -> str:
        pages = KeptPages(News())
        with pytest.raises(OSError):  # noqa: PT011 - any
            await pages.page("/", fail)
        return (await pages.page("/", making("a")[1])).page.title

    assert asyncio.run(ask()) == "a page"


def test_a_stream_says_what_was_missed_and_beats():
    """From a moment that is remembered the runs; from an older one that nothing is known."""

    async def hear() -> list[object]:
        news = News(heartbeat_s=0.01)
        begin = news.since
        for number in range(300):
            await news.publish([f"run {number}"])
        near, far = news.open(f"{news.boot}-298"), news.open(begin)
        heard: list[object] = [await anext(near), await anext(near), await anext(near)]
        heard += [await anext(far), await anext(far)]
        await near.aclose()
        await far.aclose()
        assert news.streams == 0
        return heard

    first, missed, beat, _, unknown = asyncio.run(hear())
    assert first is None
    assert missed[1] == {"run 298", "run 299"}
    assert beat is None
    assert unknown[1] is None


def test_equal_questions_have_one_address():
    """Parameters that the page does not know, and empty ones, make no other page."""
    known = ("q", "verdict")
    one = asked("/", {"q": "a b&c", "utm": "x", "verdict": ""}, known)
    other = asked("/", {"verdict": "", "q": "a b&c"}, known)

    assert one.key == other.key
    assert one.link() == "/?q=a+b%26c"
    assert one.link(page=3) == "/?q=a+b%26c&page=3"
    assert asked("/", {"q": "a", "page": "7"}, known).link(verdict="faulty") == (
        "/?q=a&verdict=faulty"
    )
    assert asked("/", {"page": "-1"}, known).number == 1
    assert asked("/", {"page": "9" * 30}, known).number == 1
