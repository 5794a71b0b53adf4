"""Sessions, against a loop over the events of each consumer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embeddings.kernels.sessions import session_of_each

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=30)


@given(EVENTS, st.integers(0, 10))
def test_sessions_are_those_of_a_slow_loop(events, pause):
    consumers = np.array([consumer for consumer, _ in events], np.int32)
    times = np.array([time for _, time in events], np.int64)
    found, count = session_of_each(consumers, times, pause)
    for one, (consumer, time) in enumerate(events):
        for other, (other_consumer, other_time) in enumerate(events):
            between = [t for c, t in events if c == consumer and time <= t <= other_time]
            if other_time >= time and consumer == other_consumer:
                together = bool((np.diff(sorted(between)) <= pause).all())
                assert (found[one] == found[other]) == together
    assert sorted(set(found.tolist())) == list(range(count))


def test_sessions_of_two_consumers_never_share_a_number():
    found, count = session_of_each(np.array([0, 1, 0], np.int32), np.array([5, 5, 6]), 10)
    assert found.tolist() == [0, 1, 0]
    assert count == 2
