"""Laws of messages that need no daemon: pace, templates, and what is kept across a kill."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posted import mailbox
from sentinel.alerting import FIELDS, Notify, filled
from sentinel.errors import ConfigError
from sentinel.notices.addresses import resolved, scrubbed
from sentinel.notices.notice import Notice, example, message_of
from sentinel.notices.outbox import KEPT_S, Outbox
from sentinel.notices.pace import HOUR_S, Pace
from sentinel.notices.post import Post


@given(st.lists(st.floats(0, 40_000), min_size=1, max_size=60), st.integers(1, 5))
def test_no_hour_has_more_messages_than_allowed(arrivals, per_hour):
    """Whenever they come, and each waits for its group at least."""
    pace, sent = Pace(group_s=30.0, per_hour=per_hour), []
    for at_s in sorted(arrivals):
        first_s = max(at_s, sent[-1]) if sent else at_s
        due_s = pace.due_s(first_s)
        assert due_s >= first_s + 30.0
        pace.sent(due_s)
        sent.append(due_s)

    for number, at_s in enumerate(sent):
        assert len([one for one in sent[number:] if one < at_s + HOUR_S]) <= per_hour


@given(st.dictionaries(st.sampled_from(FIELDS), st.text()), st.text())
def test_a_field_brings_text_and_nothing_else(values, text):
    """What a value holds is never taken for a field; a text without fields stays."""
    template = "".join(f"<{{{name}}}>" for name in values)

    assert filled(template, values) == "".join(f"<{value}>" for value in values.values())
    assert filled(text.replace("{", ""), values) == text.replace("{", "")


def test_many_occasions_are_summed_up():
    """The gravest in the title, eight in words, of the rest the number."""
    notices = [example() for _ in range(20)]

    message = message_of([*notices, Notice(**_values(occasion="gave_up"))], Notify())

    assert message.title == "sentinel: cat/out: ended, nothing trains at step 7 (and 20 more)"
    assert message.body.count("this is a test") == 8
    assert message.body.endswith("and 13 more; `sentinel log` lists them all")


def test_what_was_not_sent_is_there_after_a_kill(tmp_path):
    """Each once, in order; one that is a day old is not told any more, a torn one never."""
    box = Outbox(tmp_path)
    for number in range(3):
        box.put(Notice(**_values(key=f"k{number}")))
    places = {Notice.from_json(one.read_bytes()).key: one for one in tmp_path.iterdir()}
    for number, place in enumerate(sorted(places.values(), key=lambda one: one.name)):
        os.utime(place, (time.time(), time.time() - 100 + number))
    os.utime(places["k1"], (time.time(), time.time() - KEPT_S - 9))
    (tmp_path / "half.json").write_text('{"key": "k')

    left = Outbox(tmp_path).left()

    assert {one.key for one in left} == {"k0", "k2"}
    assert len(list(tmp_path.iterdir())) == 2
    for notice in left:
        box.drop(notice)
    assert not list(tmp_path.iterdir())


def test_one_address_that_fails_keeps_no_other_waiting(tmp_path):
    """The good one has its message at once; of the bad one is said after the last try."""
    pytest.importorskip("apprise")
    said: list[str] = []
    with mailbox() as good, mailbox(500, 500, 500) as bad:
        post = Post(
            Notify(group_s=0.01, picture=False),
            [bad.url, good.url],
            outbox=Outbox(tmp_path),
            log=tmp_path,
            on_note=said.append,
            again_s=(0.0, 0.0),
        )
        post.start()
        post.put(Notice(**_values()))
        message = good.next()
        assert all(bad.asked.acquire(timeout=60) for _ in range(3))
        post.put(Notice(**_values(key="second")))
        second = bad.next()
        post.close()

    assert "at step 7" in message["message"]
    assert "at step 7" in second["message"]
    assert len(said) == 1
    assert said[0].startswith(f"no message to json://127.0.0.1:{bad.port} after 3 tries: ")
    assert "hunter2secret" not in said[0]
    assert not list(tmp_path.iterdir())


def test_an_address_is_filled_from_the_environment():
    """Several names in one; one that is missing is named, its neighbour's value is not."""
    pytest.importorskip("apprise")
    known = {"A": "alpha-secret", "B_2": "beta"}

    assert resolved(["json://${A}@h/${B_2}", "mailto://x"], known) == (
        "json://alpha-secret@h/beta",
        "mailto://x",
    )
    with pytest.raises(ConfigError, match=r"'\$\{C\}': is not in the environment") as caught:
        resolved(["json://${A}@${C}"], known)
    assert "alpha-secret" not in str(caught.value)


def test_a_reason_loses_what_the_address_does_not_show():
    """Whatever a plugin says of a failure."""
    url = "https://user:passw0rd@example.org/T0KEN/x"

    said = scrubbed(
        "POST https://example.org/T0KEN/x as user:passw0rd: 403", url, "https://example.org"
    )

    assert said == "POST https://example.org/.../x as ...:...: 403"


def _values(**changed: str) -> dict[str, str]:
    return {
        "key": "k", "occasion": "faulty", "run_id": "1", "run": "cat/out", "step": "step 7",
        "what": "it hangs", "since": "now", "does": "nothing", "look": "sentinel log 1",
        "at": "now", **changed,
    }  # fmt: skip
