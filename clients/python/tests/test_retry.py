"""Again, and when. The numbers are those of `monitor run`."""

from __future__ import annotations

from monitor_client._books import _ON_ITS_WAY, BackOff, Books, Entry, Register
from monitor_client._retry import Again, Fail, Retry, delay


def test_the_delays() -> None:
    assert [delay(attempt, 1.0) for attempt in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert delay(10**9, 0.0) == 0
    assert delay(10**9, 1e-9) == 60
    assert delay(0, 1e300) == 60


def test_kills_and_crashes_have_budgets_of_their_own() -> None:
    retry = Retry(oom_retries=2, oom_retry_base=1.0, crash_retries=1)
    assert retry.killed(True, alone=False) == Again(1.0)
    assert retry.crashed()
    assert retry.killed(True, alone=False) == Again(2.0)
    assert not retry.crashed()
    failed = retry.killed(True, alone=False)
    assert isinstance(failed, Fail)
    assert "oom_retries (2)" in failed.reason


def test_no_limit_is_no_limit() -> None:
    retry = Retry(oom_retries=-1, oom_retry_base=0.0, crash_retries=-1)
    assert all(isinstance(retry.killed(True, alone=False), Again) for _ in range(100))
    assert all(retry.crashed() for _ in range(100))


def test_the_decision_of_the_agent_comes_first() -> None:
    assert isinstance(Retry(-1, 1.0, -1).killed(False, alone=False), Fail)
    assert isinstance(Retry(0, 1.0, -1).killed(True, alone=False), Fail)


def test_who_is_killed_alone_twice_in_a_row_is_not_run_again() -> None:
    retry = Retry(-1, 1.0, 0)
    assert isinstance(retry.killed(True, alone=True), Again)
    assert isinstance(retry.killed(True, alone=False), Again)
    assert isinstance(retry.killed(True, alone=True), Again)
    assert isinstance(retry.killed(True, alone=True), Fail)


def test_for_a_minute_no_client_is_later_than_a_new_agent_waits_for_it() -> None:
    back_off = BackOff()
    while back_off.waited < _ON_ITS_WAY:
        assert back_off.next() <= 0.314
    assert max(back_off.next() for _ in range(20)) == 5.0
    assert max(BackOff().next(busy=True) for _ in range(20)) <= 5.0


def test_the_newest_kill_of_the_same_worker_and_pid_is_taken() -> None:
    entry = Entry(Register(7, 1), ["w1", "w2"], False)
    victims = [{"worker": "w4", "pid": 7}, {"worker": "w2", "pid": 7, "should_retry": True, "why": "w"}]
    kills = [
        {"id": 1, "domain": "node", "victims": [{"worker": "w1", "pid": 7, "should_retry": False}]},
        {"id": 2, "domain": "node", "victims": victims, "used": 9},
        {"id": 3, "domain": "node", "victims": [{"worker": "w2", "pid": 8}]},
        {"id": 4, "domain": "node", "victims": None},
    ]
    found = entry.kill_in(kills)  # type: ignore[arg-type]
    assert found is not None
    assert (found.kill, found.worker, found.should_retry, found.used) == (2, "w2", True, 9)
    other = Entry(Register(9, 1), ["w1"], False)
    assert other.kill_in(kills) is None  # type: ignore[arg-type]


def test_the_dead_do_not_fill_the_books() -> None:
    books = Books()
    for pid in range(1000):
        books.enter(Entry(Register(pid, 1), [f"w{pid}"], False), lambda register: register.pid % 100 == 0)
    assert len(books.entries) < 200
    assert books.find("w100") is not None
    assert books.find("w999") is not None
