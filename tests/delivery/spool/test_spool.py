"""The spool on a real disk: leases, bounds, faults of the file, several processes, and a model."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_posthog.delivery import Entry, destination_of
from otel_posthog.delivery.spool.database import FILE_NAME, open_spool_file
from otel_posthog.delivery.spool.entries import DeadLetter
from otel_posthog.delivery.spool.lease_holder import is_alive, name_of_holder
from otel_posthog.delivery.spool.spool import MAX_LEASE_SECONDS, RETRY_SECONDS, Spool
from tests.delivery.support import KEY, Clock

LEASE = 60.0


def make(directory: Path, clock: Clock | None = None, *, destination: str = "here", **changes: Any) -> Spool:
    clock = clock or Clock()
    options = {"max_bytes": 10_000_000, "lease_seconds": LEASE, "clock": clock, "now": clock}
    return Spool(directory, destination, **{**options, **changes})


def entries(*bodies: str) -> list[Entry]:
    return [Entry("event", body.encode(), 1.0) for body in bodies]


def leased(spool: Spool, max_entries: int = 100, max_bytes: int = 10_000) -> str:
    return "".join(held.entry.body.decode() for held in spool.lease(max_entries, max_bytes))


def test_entries_are_leased_in_order(tmp_path: Path) -> None:
    spool = make(tmp_path)
    assert spool.put(entries("a", "b"))
    assert spool.put([Entry("span", b"c", 2.0)])
    assert [held.entry for held in spool.lease(9, 999)] == [*entries("a", "b"), Entry("span", b"c", 2.0)]


def test_a_lease_stops_at_entries_and_bytes_but_has_one_entry(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.put(entries("aaa", "bbb", "ccc", "ddd"))
    assert [leased(spool, 1), leased(spool, 9, 7), leased(spool, 9, 1)] == ["aaa", "bbbccc", "ddd"]


def test_a_spool_that_keeps_its_oldest_rejects_entries_without_room_until_there_is_room(
    tmp_path: Path,
) -> None:
    spool = make(tmp_path, max_bytes=1_000_000, drops_oldest=False)
    kept = 0
    while spool.put(entries("x" * 50_000)) is not None:
        kept += 1
    assert 10 < kept < 20
    assert spool.is_full()
    assert (spool.stats()["entries"], spool.stats()["dropped"]) == (kept, {})
    held = spool.lease(1, 1)
    assert spool.acknowledge(
        [each.id for each in held], entries("y" * 40_000)
    )  # in the place of the deleted one
    assert not spool.acknowledge((), entries("y" * 60_000))
    spool.acknowledge([each.id for each in spool.lease(5, 250_000)])
    assert not spool.is_full()
    assert spool.put(entries("z" * 50_000))


def test_dead_letters_make_room_in_a_spool_that_keeps_its_oldest_entries(tmp_path: Path) -> None:
    spool = make(tmp_path, max_bytes=1_000_000, drops_oldest=False)
    for _ in range(40):
        spool.acknowledge((), dead=[DeadLetter(b"x" * 50_000, 1.0, "invalid")])
    assert not spool.is_full()
    for _ in range(8):
        assert spool.put(entries("y" * 50_000))
        assert spool.acknowledge((), entries("y" * 1_000))
    assert spool.stats()["entries"] == 16
    assert spool.stats()["dropped"].keys() == {"dead_letter"}


@pytest.mark.parametrize("number", [1, 2])
def test_dead_letters_stay_if_they_could_not_make_enough_room(tmp_path: Path, number: int) -> None:
    spool = make(tmp_path, max_bytes=1_000_000, drops_oldest=False)
    spool.acknowledge((), dead=[DeadLetter(b"x" * 50_000, 1.0, "invalid")] * 4)
    assert spool.put(entries("y" * 1_000_000) * number) is None
    assert not spool.acknowledge((), entries("y" * 1_000_000))
    assert (spool.stats()["dead_letters"], spool.stats()["dropped"]) == (4, {})


def test_a_spool_is_full_if_dropping_its_dead_letters_is_not_enough(tmp_path: Path) -> None:
    spool = make(tmp_path, max_bytes=1_000_000, drops_oldest=False)
    spool.acknowledge((), dead=[DeadLetter(b"x" * 100, 1.0, "invalid")])
    while spool.put(entries("y" * 50_000)) is not None:
        assert spool.stats()["dead_letters"] == 1
    assert spool.is_full()


def test_an_entry_is_there_for_the_next_process(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.put(entries("a"))
    spool.leave()
    spool.close()
    assert leased(make(tmp_path)) == "a"


def test_an_entry_belongs_to_its_writer_until_that_leaves(tmp_path: Path) -> None:
    clock = Clock()
    one, other = make(tmp_path, clock), make(tmp_path, clock)
    one.put(entries("a", "b"))
    other.reclaim()
    assert (leased(one, 1), leased(other)) == ("a", "")
    one.leave()
    assert (leased(other), leased(one)) == ("b", "")


@pytest.mark.parametrize("sending", [False, True])
def test_the_entries_of_a_holder_that_died_are_reclaimed(tmp_path: Path, sending: bool) -> None:
    dead: set[str] = set()
    one, other = (make(tmp_path, is_alive=lambda holder: holder.strip("!") not in dead) for _ in range(2))
    one.put(entries("a"), held=sending)
    other.reclaim()
    assert leased(other) == ""
    dead.add(one._holder)
    other.reclaim()
    assert leased(other) == "a"


@pytest.mark.parametrize("sending", [False, True])
def test_the_lease_of_an_unknown_holder_expires(tmp_path: Path, sending: bool) -> None:
    clock = Clock()
    make(tmp_path, clock).put(entries("a"), held=sending)
    other = make(tmp_path, clock)
    clock.seconds += LEASE - 1
    assert leased(other) == ""
    clock.seconds += 1
    assert leased(other) == "a"


def test_a_holder_is_alive_if_its_process_is_or_may_be() -> None:
    me = name_of_holder()
    host, number, _ = me.split(":")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert is_alive(me)
    assert is_alive(me + "!")
    assert not is_alive(f"{host}:{ended.pid}:x")
    assert is_alive(f"elsewhere:{ended.pid}:x")
    assert is_alive(f"{host}:{10**30}:x")
    assert is_alive("no name of ours")
    assert int(number) == os.getpid()


def test_a_lease_from_before_a_restart_of_the_machine_is_void(tmp_path: Path) -> None:
    clock = Clock()
    clock.seconds = 10 * MAX_LEASE_SECONDS
    make(tmp_path, clock).put(entries("a"), held=True)
    clock.seconds = 5.0
    assert leased(make(tmp_path, clock)) == "a"


def test_a_released_entry_can_be_leased_again(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.put(entries("a"))
    spool.release([held.id for held in spool.lease(9, 99)])
    assert spool.has_leasable()
    assert leased(spool) == "a"
    assert not spool.has_leasable()


def test_an_entry_that_is_put_held_cannot_be_leased(tmp_path: Path) -> None:
    clock = Clock()
    one, other = make(tmp_path, clock), make(tmp_path, clock)
    ids = one.put(entries("a", "b"), held=True)
    assert ids
    assert leased(other) == ""
    assert leased(one) == ""
    assert one.acknowledge(ids)
    clock.seconds += LEASE
    assert leased(other) == ""


def test_acknowledging_deletes_puts_back_and_dead_letters_at_once(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.put(entries("a", "b", "c"))
    held = spool.lease(3, 99)
    assert spool.acknowledge([each.id for each in held], entries("B"), [DeadLetter(b"c", 1.0, "invalid")])
    assert leased(spool) == "B"
    stats = spool.stats()
    assert (stats["entries"], stats["dead_letters"]) == (1, 1)


def test_a_worker_whose_lease_expired_does_not_delete_the_entry_of_another(tmp_path: Path) -> None:
    clock = Clock()
    one, other = make(tmp_path, clock), make(tmp_path, clock)
    one.put(entries("a"))
    [held] = one.lease(1, 99)
    clock.seconds += LEASE
    assert leased(other) == "a"
    one.acknowledge([held.id])
    assert other.stats()["entries"] == 1


def test_each_destination_has_its_own_entries(tmp_path: Path) -> None:
    one, other = make(tmp_path, destination="one"), make(tmp_path, destination="other")
    one.put(entries("a"))
    assert leased(other) == ""
    assert leased(one) == "a"


def test_a_destination_does_not_reveal_the_key() -> None:
    assert KEY not in destination_of(KEY)
    assert destination_of(KEY) != destination_of(KEY + "x")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    spool = make(tmp_path / "a" / "b")
    spool.put(entries("a"))
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    files = [*(tmp_path / "a" / "b").iterdir()]
    assert {file.name for file in files} == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_oldest_entries_of_a_full_spool_are_dropped_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, max_bytes=1_000_000)
    spool.acknowledge((), dead=[DeadLetter(b"x" * 1000, 1.0, "invalid")])
    for number in range(1500):
        spool.put(entries(f"{number:04}" + "x" * 996))
    held = spool.lease(10_000, 10_000_000)
    kept = [int(each.entry.body[:4]) for each in held]
    assert kept == [*range(kept[0], 1500)]
    assert 300 < len(kept) < 1000
    stats = spool.stats()
    assert stats["dropped"] == {"dead_letter": 1, "spool_full": 1500 - len(kept)}
    assert stats["dead_letters"] == 0
    assert len(caplog.records) == 1
    assert "spool_max_bytes" in caplog.text


def test_a_full_file_stays_within_its_bound(tmp_path: Path) -> None:
    spool = make(tmp_path, max_bytes=2_000_000)
    for _ in range(40):
        spool.put(entries("x" * 400_000))
    spool.copy_into_database()
    assert (tmp_path / FILE_NAME).stat().st_size < 3_000_000
    spool.close()


def test_a_fork_waits_for_a_copy_on_a_connection_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a process forks during it, no thread of the child ever releases SQLite's own mutexes."""
    spool = make(tmp_path)
    spool.put(entries("a"))
    forked, seen = threading.Event(), []

    def fork() -> None:
        spool.before_fork()
        forked.set()
        spool.after_fork_in_parent()

    thread = threading.Thread(target=fork)

    def open_amid_a_fork(directory: Path) -> sqlite3.Connection:
        thread.start()
        seen.append(forked.wait(0.2))
        return open_spool_file(directory)

    with monkeypatch.context() as patch:
        patch.setattr("otel_posthog.delivery.spool.spool.open_spool_file", open_amid_a_fork)
        spool.copy_into_database()
    thread.join(10)
    assert (seen, forked.is_set()) == ([False], True)
    spool.close()


# --- faults of the file --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_moved_aside_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    spool = make(tmp_path)
    assert spool.put(entries("a"))
    assert leased(spool) == "a"
    [aside] = tmp_path.glob("*.corrupt-*")
    assert aside.read_bytes() == content
    [record] = caplog.records
    assert "moved to" in record.getMessage()


def test_a_database_of_another_application_is_moved_aside(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("CREATE TABLE entries (a)")
    other.close()
    assert make(tmp_path).put(entries("a"))
    assert [*tmp_path.glob("*.corrupt-*")]


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_spool_file(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as later:
        later.execute("PRAGMA user_version = 99")
    later.close()
    assert make(tmp_path).put(entries("a")) is None
    assert "later version" in caplog.text
    assert not [*tmp_path.glob("*.corrupt-*")]


def test_a_file_that_another_process_moved_aside_is_not_written_to(tmp_path: Path) -> None:
    one, other = make(tmp_path), make(tmp_path)
    one.put(entries("a"))
    for file in tmp_path.iterdir():
        file.rename(file.with_name(file.name + ".corrupt-by-other"))
    assert other.put(entries("b"))
    assert one.put(entries("c"))
    one.leave()
    assert leased(other) == "bc"


def test_a_directory_that_vanished_is_made_again(tmp_path: Path) -> None:
    spool = make(tmp_path / "spool")
    spool.put(entries("a"))
    shutil.rmtree(tmp_path / "spool")
    assert spool.put(entries("b"))
    assert leased(spool) == "b"


def test_without_a_directory_nothing_is_kept_and_one_warning_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    clock = Clock()
    spool = make(tmp_path / "file" / "spool", clock)
    for _ in range(3):
        assert spool.put(entries("a")) is None
    assert (spool.lease(1, 1), spool.has_leasable(), spool.acknowledge([1])) == ([], False, False)
    assert len(caplog.records) == 1
    assert "memory only" in caplog.text


def test_a_directory_that_can_be_used_again_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    clock = Clock()
    spool = make(tmp_path / "spool", clock)
    assert spool.put(entries("a")) is None
    (tmp_path / "spool").unlink()
    clock.seconds += RETRY_SECONDS - 1
    assert spool.put(entries("b")) is None
    clock.seconds += 1
    assert spool.put(entries("c"))


def test_a_full_disk_keeps_nothing_breaks_nothing_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    spool = make(tmp_path, clock)
    spool.put(entries("a"))
    connection = spool._open()
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 10")  # SQLite gives the error of a full disk
    assert spool.put(entries("x" * 100_000)) is None
    assert "full" in caplog.text
    clock.seconds += RETRY_SECONDS
    assert spool.put(entries("b"))
    assert leased(spool) == "ab"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_read_only_file_keeps_nothing_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path)
    spool.put(entries("a"))
    connection = spool._open()
    assert connection is not None
    # Like a disk that was remounted read-only. Root may write to any other file.
    connection.execute("PRAGMA query_only = 1")
    assert spool.put(entries("b")) is None
    assert "cannot be used" in caplog.text


def test_any_page_may_be_broken(tmp_path: Path) -> None:
    """Garbage anywhere in the file raises no error, and new entries are kept."""
    chance = random.Random(7)
    good = tmp_path / "good"
    spool = make(good)
    spool.put(entries(*("x" * chance.randrange(1, 9000) for _ in range(60))))
    spool.close()
    whole = (good / FILE_NAME).read_bytes()
    assert len(whole) > 200_000
    for round_ in range(60):
        broken = bytearray(whole)
        for _ in range(chance.randrange(1, 30)):
            at = chance.randrange(len(broken))
            broken[at : at + 40] = chance.randbytes(min(40, len(broken) - at))
        directory = tmp_path / str(round_)
        directory.mkdir()
        (directory / FILE_NAME).write_bytes(broken)
        reopened = make(directory)
        for _ in range(5):
            ids = [held.id for held in reopened.lease(20, 100_000)]
            reopened.acknowledge(ids)
        if reopened.put(entries("new")) is None:
            pytest.fail(f"round {round_}: nothing can be kept")
        reopened.stats()
        reopened.close()


def test_a_signal_handler_may_use_a_spool_that_is_in_use(tmp_path: Path) -> None:
    spool = make(tmp_path)
    connection = spool._open()
    assert connection is not None
    connection.execute("BEGIN IMMEDIATE")
    assert spool.put(entries("of the handler"))
    assert leased(spool) == "of the handler"


# --- against a model -------------------------------------------------------------------------------------


class AgainstAModel(RuleBasedStateMachine):
    """Two processes on one directory, each of which may die and be replaced, compared with a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.dead: set[str] = set()
        self.spools = [self.begin(), self.begin()]
        self.there: dict[int, list[Any]] = {}
        """By id: body, the holder, whether it is sending, and the end of the lease."""
        self.letters = 0
        self.count = 0

    def begin(self) -> Spool:
        return make(self.directory, self.clock, is_alive=lambda holder: holder.strip("!") not in self.dead)

    def teardown(self) -> None:
        for spool in self.spools:
            spool.close()
        shutil.rmtree(self.directory)

    def until(self) -> float:
        return self.clock.seconds + LEASE

    def free(self, spool: Spool) -> list[int]:
        return sorted(
            identifier
            for identifier, (_, owner, sending, until) in self.there.items()
            if owner is None or until <= self.clock.seconds or (owner is spool and not sending)
        )

    def sent_by(self, spool: Spool) -> list[int]:
        return [
            identifier
            for identifier, (_, owner, sending, _) in self.there.items()
            if owner is spool and sending
        ]

    @rule(index=st.integers(0, 1), many=st.integers(1, 4), held=st.booleans())
    def put(self, index: int, many: int, held: bool) -> None:
        bodies = [f"{self.count + at}" for at in range(many)]
        self.count += many
        ids = self.spools[index].put(entries(*bodies), held=held)
        assert ids is not None
        self.there |= {
            each: [body, self.spools[index], held, self.until()]
            for each, body in zip(ids, bodies, strict=True)
        }

    @rule(index=st.integers(0, 1), many=st.integers(1, 4))
    def take(self, index: int, many: int) -> None:
        spool = self.spools[index]
        expected = self.free(spool)[:many]
        held = spool.lease(many, 10_000)
        assert [(each.id, each.entry.body.decode()) for each in held] == [
            (identifier, self.there[identifier][0]) for identifier in expected
        ]
        for identifier in expected:
            self.there[identifier][1:] = [spool, True, self.until()]

    @rule(index=st.integers(0, 1), back=st.booleans(), dies=st.booleans())
    def acknowledge(self, index: int, back: bool, dies: bool) -> None:
        spool = self.spools[index]
        ids = self.sent_by(spool)[:3]
        new = [f"back {self.count}"] if back else []
        self.count += back
        before = {*self.ids()}
        assert spool.acknowledge(ids, entries(*new), [DeadLetter(b"x", 1.0, "invalid")] if dies else [])
        for identifier in ids:
            del self.there[identifier]
        self.there |= {each: [new[0], spool, False, self.until()] for each in {*self.ids()} - before}
        self.letters += dies

    @rule(index=st.integers(0, 1))
    def release(self, index: int) -> None:
        ids = self.sent_by(self.spools[index])
        self.spools[index].release(ids)
        for identifier in ids:
            self.there[identifier][1:] = [None, False, 0.0]

    @rule(index=st.integers(0, 1))
    def leave(self, index: int) -> None:
        self.spools[index].leave()
        for each in self.there.values():
            if each[1] is self.spools[index] and not each[2]:
                each[1:] = [None, False, 0.0]

    @rule(index=st.integers(0, 1), known=st.booleans())
    def die(self, index: int, known: bool) -> None:
        """Another process replaces it, and may know that it died."""
        if known:
            self.dead.add(self.spools[index]._holder)
        self.spools[index].close()
        self.spools[index] = self.begin()

    @rule(index=st.integers(0, 1))
    def reclaim(self, index: int) -> None:
        self.spools[index].reclaim()
        for each in self.there.values():
            if each[1] is not None and each[1]._holder in self.dead:
                each[1:] = [None, False, 0.0]

    @rule(seconds=st.sampled_from([1.0, LEASE / 2, LEASE]))
    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds

    def ids(self) -> list[int]:
        with sqlite3.connect(self.directory / FILE_NAME) as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM entries")]
        connection.close()
        return ids

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        stats = self.spools[0].stats()
        assert (stats["entries"], stats["dead_letters"]) == (len(self.there), self.letters)
        for spool in self.spools:
            assert spool.has_leasable() == bool(self.free(spool))


AgainstAModel.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["event", "span"]), st.binary(max_size=5000)), max_size=20))
def test_bodies_come_back_as_they_were(stored: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        spool = make(Path(directory))
        spool.put([Entry(kind, body, 3.5) for kind, body in stored])
        assert [held.entry for held in spool.lease(99, 10**9)] == [Entry(*each, 3.5) for each in stored]
        spool.close()


def test_processes_with_different_leases_do_not_take_from_each_other(tmp_path: Path) -> None:
    clock = Clock()
    patient, other = make(tmp_path, clock, lease_seconds=2400.0), make(tmp_path, clock, lease_seconds=60.0)
    patient.put(entries("a"), held=True)
    assert leased(other) == ""


def test_an_entry_that_was_sent_but_could_not_be_deleted_is_not_sent_again(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.put(entries("a", "b"))
    ids = [held.id for held in spool.lease(1, 99)]
    with sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not spool.acknowledge(ids)
        other.execute("ROLLBACK")
    other.close()
    assert leased(spool) == "b"
    assert spool.stats()["entries"] == 1


def test_a_file_that_another_process_has_locked_is_tried_again_at_once(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.put(entries("a"))
    with sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert spool.put(entries("b")) is None
        assert spool.is_locked
        other.execute("ROLLBACK")
    other.close()
    assert spool.put(entries("c"))
