"""Instances of jobs in a real store: what may happen to a row, in whatever order, and from how many sides at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from dbos._dbos import _get_dbos_instance

from mltoolkit.errors import Invalid
from mltoolkit.scheduling import history, instances, scheduler, ticks
from mltoolkit.scheduling.engine import engine
from mltoolkit.scheduling.instances import Begun, Ended
from mltoolkit.scheduling.jobs import Job, Jobs, Retries, Schedule
from mltoolkit.scheduling.store import INSTANCES, SCHEDULES, State, Store, attempts_of, instance, open_store

BERLIN = ZoneInfo("Europe/Berlin")
AT = ticks.moment("2013-02-01T02:30", BERLIN)


def job(name: str, *needs: str, **more: Any) -> Job:
    return Job(name=name, project=None, file=Path("jobs.yaml"), line=1, notebook=Path(f"{name}.ipynb"), needs=needs, timezone="Europe/Berlin", **more)


def jobs(*every: Job) -> Jobs:
    return Jobs(Path(), {each.id: each for each in every})


@pytest.fixture
def store(bare_workspace: Path) -> Iterator[Store]:
    made = open_store(bare_workspace)
    yield made
    made.close()


def states(store: Store) -> dict[str, str]:
    with store.read() as connection:
        return {key: state for key, state in connection.execute(sa.select(INSTANCES.c.key, INSTANCES.c.state))}  # noqa: C416


def start(store: Store, known: Jobs, now: float | None = None) -> list[Begun]:
    """Begin whatever may begin."""
    begun = [instances.begin(store, key, dispatch, "w:1", "here") for key, dispatch in instances.advance(store, known, now=now).start]
    return [each for each in begun if each]


def end(store: Store, known: Jobs, begun: Begun, state: State = State.succeeded, **more: Any) -> State | None:
    return instances.conclude(store, known.find(begun.row["job"]), begun.row["key"], begun.number, Ended(state, **more))


def follow_from(store: Store, known: Jobs, name: str, since: datetime, until: datetime) -> list[str]:
    """Serve from one moment to another, as if nothing had been looked at in between."""
    instances.follow(store, known, known.find(name), since)
    return instances.follow(store, known, known.find(name), until)


class TestPipelines:
    known = jobs(job("a"), job("b", "a"), job("c", "b"), job("d", "b", "a"))

    def test_all_of_it_is_there_at_once_and_only_once(self, store: Store) -> None:
        made = instances.submit(store, self.known, self.known["c"], AT)
        assert [key.partition("@")[0] for key in made] == ["a", "b", "c"]
        assert instances.submit(store, self.known, self.known["a"], AT) == ["d@2013-02-01T02:30:00"]
        assert instances.submit(store, self.known, self.known["a"], AT) == []

    def test_each_waits_for_what_it_needs(self, store: Store) -> None:
        instances.submit(store, self.known, self.known["a"], AT)
        order = []
        while begun := start(store, self.known):
            order.append(sorted(each.row["job"] for each in begun))
            for each in begun:
                assert end(store, self.known, each) is State.succeeded
        assert order == [["a"], ["b"], ["c", "d"]]

    def test_a_failure_blocks_and_can_be_gone_on_from(self, store: Store) -> None:
        instances.submit(store, self.known, self.known["a"], AT)
        end(store, self.known, start(store, self.known)[0])
        end(store, self.known, start(store, self.known)[0], State.failed, reason="a cell raised")
        turn = instances.advance(store, self.known)
        assert sorted(key[0] for key in turn.ended) == ["c", "d"]
        assert "b@2013-02-01T02:30:00 is failed" in instance(store, "c@2013-02-01T02:30:00")["reason"]
        again = instances.from_failure(store, self.known, self.known["a"], "2013-02-01T02:30:00")
        assert [key[0] for key in again] == ["b", "c", "d"]
        begun = start(store, self.known)
        assert [(each.row["job"], each.number) for each in begun] == [("b", 2)]

    def test_a_job_that_has_its_own_schedule_is_not_pulled_in(self, store: Store) -> None:
        known = jobs(job("a"), job("b", "a", schedule=Schedule(every="1h")))
        assert len(instances.submit(store, known, known["a"], AT)) == 1
        assert len(instances.submit(store, known, known["b"], AT)) == 1


class TestAttempts:
    def test_retries_wait_longer_each_time_and_end(self, store: Store) -> None:
        known = jobs(job("a", retries=Retries(times=2, backoff=60, longest=90, on=("failed",))))
        instances.submit(store, known, known["a"], AT)
        waits = []
        for _ in range(2):
            (begun,) = start(store, known, now=4e9)
            assert end(store, known, begun, State.failed, reason="no") is State.waiting
            waits.append(round(instance(store, begun.row["key"])["not_before"] - time.time()))
        assert waits == [60, 90]
        assert start(store, known) == []
        (begun,) = start(store, known, now=4e9)
        assert end(store, known, begun, State.failed) is State.failed
        assert [each["state"] for each in attempts_of(store, begun.row["key"])] == ["failed"] * 3

    def test_only_the_statuses_named_are_retried(self, store: Store) -> None:
        known = jobs(job("a", retries=Retries(times=2, on=("kernel_died",))))
        instances.submit(store, known, known["a"], AT)
        assert end(store, known, start(store, known)[0], State.failed) is State.failed

    def test_an_interruption_costs_no_retry_but_three_lost_workers_are_enough(self, store: Store) -> None:
        known = jobs(job("a"))
        instances.submit(store, known, known["a"], AT)
        for _ in range(5):
            assert end(store, known, start(store, known)[0], State.cancelled, interrupted=True) is State.waiting
        for _ in range(2):
            assert end(store, known, start(store, known)[0], State.lost, interrupted=True, lost=True) is State.waiting
        assert end(store, known, start(store, known)[0], State.lost, interrupted=True, lost=True) is State.lost

    def test_beginning_and_ending_twice(self, store: Store) -> None:
        known = jobs(job("a"))
        instances.submit(store, known, known["a"], AT)
        ((key, dispatch),) = instances.advance(store, known).start
        first, unsure, second = (instances.begin(store, key, dispatch, worker, "here") for worker in ("w:1", "w:1", "w:2"))
        assert [each.number for each in (first, unsure, second)] == [1, 1, 1]
        assert (first.again, unsure.again, second.again) == (False, False, True), "whoever wrote it may have missed the answer"
        instances.note(store, key, 1, pid=1)
        assert instances.begin(store, key, dispatch, "w:1", "here").again, "it came further than that"
        assert end(store, known, first) is State.succeeded
        assert end(store, known, second, State.failed) is None
        assert instances.begin(store, key, dispatch, "w:2", "here") is None
        assert instances.begin(store, "a@none", 1, "w:2", "here") is None

    def test_what_was_not_begun_goes_back(self, store: Store) -> None:
        known = jobs(job("a"))
        instances.submit(store, known, known["a"], AT)
        ((key, dispatch),) = instances.advance(store, known).start
        instances.requeue(store, key, dispatch)
        assert instances.advance(store, known).start == [(key, 2)]
        assert instances.begin(store, key, 1, "w:1", "here") is None


class TestTurns:
    def test_one_of_a_job_and_one_of_a_group_at_a_time(self, store: Store) -> None:
        known = jobs(job("a"), job("b", group="g"), job("c", group="g"))
        for day in (1, 2):
            for each in known.values():
                instances.submit(store, known, each, AT.replace(day=day))
        begun = start(store, known)
        assert sorted(each.row["job"] for each in begun) == ["a", "b"]
        assert instance(store, "c@2013-02-01T02:30:00")["reason"] == "waits for another job of group g"
        end(store, known, begun[0])
        assert [each.row["key"] for each in start(store, known)] == ["a@2013-02-02T02:30:00"]

    def test_a_backfill_has_its_own_width(self, store: Store) -> None:
        known = jobs(job("a", schedule=Schedule(cron="0 0 1 * *", timezone="Europe/Berlin")))
        keys = scheduler.backfill(store, known, "a", "2013-01", "2013-06", workers=3)
        assert len(keys) == 6
        assert len(start(store, known)) == 3
        assert scheduler.backfill(store, known, "a", "2013-01", "2013-06", workers=3) == keys
        assert len(states(store)) == 6

    def test_a_backfill_of_one_at_a_time_is_in_order(self, store: Store) -> None:
        known = jobs(job("a", schedule=Schedule(cron="0 0 1 * *", timezone="Europe/Berlin")))
        keys = scheduler.backfill(store, known, "a", "2013-01", "2013-03")
        order = []
        while begun := start(store, known):
            order += [each.row["key"] for each in begun]
            for each in begun:
                end(store, known, each)
        assert order == keys == sorted(keys)

    def test_a_long_backlog_hides_nothing_and_says_why_it_waits(self, store: Store) -> None:
        known = jobs(job("a", schedule=Schedule(cron="0 0 * * *", timezone="Europe/Berlin")), job("b"))
        scheduler.backfill(store, known, "a", "2010-01-01", "2012-12-31", workers=2)
        instances.submit(store, known, known["b"], AT)
        assert [each.row["job"] for each in start(store, known)] == ["a", "a", "b"], "though more than a thousand are due before it"
        assert instances.advance(store, known).start == []
        with store.read() as connection:
            waiting = sa.select(INSTANCES.c.reason, sa.func.count()).where(INSTANCES.c.state == State.waiting).group_by(INSTANCES.c.reason)
            assert connection.execute(waiting).all() == [("waits for 2 other(s) of backfill:a to end", 1094)]

    def test_a_paused_job_does_not_start(self, store: Store) -> None:
        known = jobs(job("a"))
        instances.submit(store, known, known["a"], AT)
        assert instances.pause(store, "a", "me") is True
        assert instances.pause(store, "a", "me") is False
        assert start(store, known) == []
        assert instance(store, "a@2013-02-01T02:30:00")["reason"] == "the job is paused"
        instances.pause(store, "a", "me", paused=False)
        assert len(start(store, known)) == 1

    def test_a_spent_budget_stops_new_ones(self, store: Store) -> None:
        known = jobs(job("a", budget=1.0))
        for day in (1, 2):
            instances.submit(store, known, known["a"], AT.replace(day=day))
        end(store, known, start(store, known)[0], cpu_s=3601.0)
        assert start(store, known) == []
        assert "budget of 1 CPU-hours" in instance(store, "a@2013-02-02T02:30:00")["reason"]
        assert history.summary(store)[0].cpu_s == 3601.0
        (begun,) = start(store, known, now=time.time() + 86400)
        assert begun.row["key"] == "a@2013-02-02T02:30:00", "a day has a budget of its own"

    def test_approval_waits_as_a_row(self, store: Store) -> None:
        known = jobs(job("a", approval="before"), job("b", approval="after"))
        for each in known.values():
            instances.submit(store, known, each, AT)
        turn = instances.advance(store, known)
        assert (turn.approvals, len(turn.start)) == (["a@2013-02-01T02:30:00"], 1)
        begun = instances.begin(store, *turn.start[0], "w:1", "here")
        assert end(store, known, begun) is State.approval

    def test_cancelling(self, store: Store) -> None:
        known = jobs(job("a", retries=Retries(times=5)), job("b"))
        for each in known.values():
            instances.submit(store, known, each, AT)
        begun = {each.row["job"]: each for each in start(store, known)}
        instances.submit(store, known, known["b"], AT.replace(day=2))
        assert instances.cancel(store, "b@2013-02-02T02:30:00", "me") is State.cancelled
        assert instances.cancel(store, "a@2013-02-01T02:30:00", "me") is State.running
        assert end(store, known, begun["a"], State.cancelled, interrupted=True) is State.cancelled
        with pytest.raises(Invalid, match="has ended already: cancelled"):
            instances.cancel(store, "a@2013-02-01T02:30:00", "me")
        with pytest.raises(Invalid, match="there is no x@1"):
            instances.cancel(store, "x@1", "me")


class TestTicks:
    def test_the_first_look_begins_and_each_tick_has_its_row(self, store: Store) -> None:
        known = jobs(job("a", schedule=Schedule(every="1h", catch_up="all")))
        follow_from(store, known, "a", datetime(2013, 1, 1, 0, 30, tzinfo=UTC), datetime(2013, 1, 1, 5, 30, tzinfo=UTC))
        assert len(states(store)) == 5

    @pytest.mark.parametrize(("policy", "ran"), [("skip", 0), ("latest", 1), ("all", 5)])
    def test_downtime_is_accounted_for(self, store: Store, policy: str, ran: int) -> None:
        known = jobs(job("a", schedule=Schedule(every="1h", catch_up=policy)))
        follow_from(store, known, "a", datetime(2013, 1, 1, 0, 30, tzinfo=UTC), datetime(2013, 1, 1, 5, 30, tzinfo=UTC))
        found = list(states(store).values())
        assert (len(found), found.count("waiting"), found.count("skipped")) == (5, ran, 5 - ran)

    @pytest.mark.parametrize(("zone", "cron", "days"), [
        ("Europe/Berlin", "30 2 * * *", ("2013-03-31", "2013-10-27")),
        ("America/New_York", "30 2 * * *", ("2013-03-10", "2013-11-03")),
        ("America/New_York", "30 1 * * *", ("2013-03-10", "2013-11-03")),
    ])  # fmt: skip
    def test_both_days_on_which_clocks_change(self, store: Store, zone: str, cron: str, days: tuple[str, str]) -> None:
        known = jobs(job("a", schedule=Schedule(cron=cron, timezone=zone, catch_up="all")))
        for day in days:
            begin, last = ticks.moment(day, ZoneInfo(zone)), ticks.moment(day, ZoneInfo(zone), last=True)
            store.write(lambda c: c.execute(sa.delete(SCHEDULES)))
            instances.follow(store, known, known["a"], begin)
            at = begin.timestamp()
            while at < last.timestamp():  # a loop that looks every ten minutes
                at += 600
                instances.follow(store, known, known["a"], datetime.fromtimestamp(min(at, last.timestamp()), UTC))
        assert sorted(key.partition("@")[2][:10] for key in states(store)) == sorted(days)

    def test_a_clock_that_is_put_back_fires_nothing_again(self, store: Store) -> None:
        known = jobs(job("a", schedule=Schedule(every="10m", catch_up="all")))
        now = datetime(2013, 1, 1, 12, 5, tzinfo=UTC)
        follow_from(store, known, "a", now, now.replace(hour=13))
        assert len(states(store)) == 6
        for minute in range(5, 60, 5):  # an hour again
            instances.follow(store, known, known["a"], now.replace(minute=minute))
        assert len(states(store)) == 6
        instances.follow(store, known, known["a"], now.replace(hour=14))
        assert len(states(store)) == 12

    @pytest.mark.parametrize(("overlap", "expected"), [
        ("queue", ["running", "waiting"]), ("skip", ["running", "skipped"]), ("cancel_older", ["running", "waiting"]),
    ])  # fmt: skip
    def test_overlaps(self, store: Store, overlap: str, expected: list[str]) -> None:
        known = jobs(job("a", schedule=Schedule(every="1h"), overlap=overlap))
        now = datetime(2013, 1, 1, 0, 30, tzinfo=UTC)
        follow_from(store, known, "a", now, now.replace(hour=1))
        start(store, known)
        instances.follow(store, known, known["a"], now.replace(hour=2))
        found = states(store)
        assert [found[key] for key in sorted(found)] == expected
        assert bool(instance(store, min(found))["cancel"]) is (overlap == "cancel_older")

    def test_a_pause_is_downtime(self, store: Store) -> None:
        known = jobs(job("a", schedule=Schedule(every="1h", catch_up="latest")))
        now = datetime(2013, 1, 1, 0, 30, tzinfo=UTC)
        instances.follow(store, known, known["a"], now)
        instances.pause(store, "a", "me")
        instances.follow(store, known, known["a"], now.replace(hour=4))
        assert states(store) == {}
        instances.pause(store, "a", "me", paused=False)
        instances.follow(store, known, known["a"], now.replace(hour=4))
        assert sorted(states(store).values()) == ["skipped"] * 3 + ["waiting"]

    def test_many_schedulers_at_once(self, store: Store) -> None:
        known = jobs(job("a", schedule=Schedule(every="1h", catch_up="all")), job("b", "a"))
        begin, now = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)
        instances.follow(store, known, known["a"], begin)
        started: list[Any] = []

        def serve() -> None:
            own = open_store(store.root)
            instances.follow(own, known, known["a"], now)
            started.extend(instances.advance(own, known).start)
            own.close()

        threads = [threading.Thread(target=serve) for _ in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(states(store)) == 48
        assert len(started) == len(set(started)) == 1, "one of the job at a time"


class TestCost:
    def test_what_a_job_asks_of_the_store_does_not_depend_on_how_many_wait(self, store: Store) -> None:
        known = jobs(job("a"))
        asked: list[tuple[str, int]] = []
        rounds, running = [], list[Begun]()

        def note(connection: object, cursor: object, statement: str, parameters: Any, context: object, many: bool) -> None:
            asked.append((statement, len(parameters) if many else 1))

        sa.event.listen(store.engine, "before_cursor_execute", note)
        for days in (range(6), range(6, 600)):
            instances.submit(store, known, known["a"], *(AT + timedelta(days=day) for day in days), origin="backfill", lane="backfill", width=2)
            running += start(store, known)
            end(store, known, running.pop(0))
            running += start(store, known)  # from here on, those that wait know what for
            asked.clear()
            end(store, known, running.pop(0))
            assert instances.pending(store, time.time()) == (True, False)
            (begun,) = start(store, known)
            instances.note(store, begun.row["key"], begun.number, pid=1)
            running.append(begun)
            rounds.append(list(asked))
        assert rounds[0] == rounds[1]
        assert len(running) == 2
        assert all(number == 1 for _, number in asked)


class TestStore:
    def test_only_what_a_power_cut_may_not_undo_waits_for_the_disk(self, store: Store) -> None:
        def level(connection: sa.Connection) -> Any:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar()

        assert [store.write(level), store.write(level, forced=False), store.write(level)] == [2, 1, 2]
        with engine(store), _get_dbos_instance()._sys_db.engine.connect() as connection:
            assert level(connection) == 1, "the engine's own, which the next change of an instance takes along"


class TestHistory:
    def test_a_hundred_thousand_rows_are_listed_by_an_index(self, store: Store) -> None:
        with store.read() as connection:
            for conditions in ([], [INSTANCES.c.job == "a"], [INSTANCES.c.state == "failed"]):
                query = sa.select(INSTANCES).where(*conditions).order_by(INSTANCES.c.due.desc()).limit(20)
                text = str(query.compile(store.engine, compile_kwargs={"literal_binds": True}))
                plan = " ".join(row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
                assert "USING INDEX" in plan, plan

    def test_what_a_job_did_is_shown_with_its_attempts(self, store: Store) -> None:
        known = jobs(job("a"), job("b", "a"))
        instances.submit(store, known, known["a"], AT)
        end(store, known, start(store, known)[0], metrics={"auc": 0.5}, run_id="0" * 32)
        entry = history.show(store, "b@2013-02-01T02:30:00")
        assert entry.needs == {"a@2013-02-01T02:30:00": "succeeded"}
        entry = history.show(store, "a@2013-02-01T02:30:00")
        assert entry.attempts[0]["metrics"] == {"auc": 0.5}
        assert history.overview(store)["a"]["last_state"] == "succeeded"
        assert history.overview(store)["b"]["open"] == 1
        with pytest.raises(Invalid, match="there is no c@1"):
            history.show(store, "c@1")


class TestByHand:
    def test_a_job_runs_once_for_each_time(self, store: Store) -> None:
        known = jobs(job("a"))
        assert scheduler.run_now(store, known, "a", "2013-01-01") == ["a@2013-01-01T00:00:00"]
        assert scheduler.run_now(store, known, "a", "2013-01-01") == ["a@2013-01-01T00:00:00"], "it waits already"
        assert end(store, known, start(store, known)[0]) is State.succeeded
        with pytest.raises(Invalid, match=r"is succeeded already: .* nothing is repeated"):
            scheduler.run_now(store, known, "a", "2013-01-01")
        assert len(scheduler.run_now(store, known, "a")) == 1

    def test_a_backfill_needs_a_schedule(self, store: Store) -> None:
        known = jobs(job("a"), job("b", schedule=Schedule(cron="0 0 1 * *", timezone="Europe/Berlin")), job("c", "b"))
        with pytest.raises(Invalid, match="a has no schedule"):
            scheduler.backfill(store, known, "a", "2013", "2014")
        with pytest.raises(Invalid, match="never due"):
            scheduler.backfill(store, known, "b", "2013-01-02", "2013-01-03")
        assert len(scheduler.backfill(store, known, "c", "2013-01", "2013-02")) == 4


def test_a_store_that_cannot_be_made_is_refused_with_its_place(bare_workspace: Path) -> None:
    with pytest.raises(Invalid, match=r"settings.ini/jobs.db cannot be made: .*the setting job_store"):
        open_store(url=f"sqlite:///{bare_workspace}/settings.ini/jobs.db")
