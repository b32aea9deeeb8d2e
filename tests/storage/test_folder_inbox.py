"""What is asked of a run that another process drives."""

import asyncio
import errno
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import CallStatus, Commit, Status, TaskRun, evolve
from sequential.core.transitions import Event, Happening
from sequential.errors import (
    DamagedRunError,
    InvalidTransitionError,
    LeaseLostError,
    RunBusyError,
    RunNotFoundError,
    StorageError,
    StorageFullError,
)
from sequential.storage import (
    files,
    folder,
    folder_inbox,
    folder_journal,
    folder_outsider,
    folder_view,
)
from sequential.storage.folder import FolderAdapter
from sequential.storage.folder_inbox import Request
from sequential.storage.folder_lease import Lease
from sequential.storage.folder_places import RunFiles
from sequential.testing.storage_contract import LATER, NOW, SOON, answer, new_call, new_run

PAUSE, UNPAUSE, CANCEL = (Happening(event) for event in (Event.PAUSE, Event.UNPAUSE, Event.CANCEL))


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[FolderAdapter]:
    adapter = FolderAdapter(tmp_path)
    yield adapter
    await adapter.close()


@pytest.fixture
async def outsider(tmp_path: Path) -> AsyncIterator[FolderAdapter]:
    adapter = FolderAdapter(tmp_path)
    yield adapter
    await adapter.close()


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever drives a run does not look into the inbox of its own accord."""
    monkeypatch.setattr(folder, "_ASKED", 1000.0)


async def driven(adapter: FolderAdapter, **changes: Any) -> TaskRun:
    run = await adapter.create_task_run(new_run(**changes))
    return await adapter.claim(run.id, "token", NOW, LATER)


def parked(run: TaskRun, **changes: Any) -> Commit:
    rest = {"status": Status.SUSPENDED, "lease_token": None, "lease_until": None, **changes}
    return Commit(evolve(run, **rest), "token")


def inbox(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.glob("*/runs/inbox/*"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


DRIVER = """
import asyncio, sys
from sequential.storage.folder import FolderAdapter
async def main():
    adapter = FolderAdapter(sys.argv[1])
    told = []
    await adapter.watch(told.append)
    await adapter.claim(sys.argv[2], "theirs", "t", "t")
    print("claimed", flush=True)
    answers = 0
    try:
        while not answers:
            while sys.argv[2] not in told:
                await asyncio.sleep(0.005)
            told.clear()
            answers = await adapter.renew(sys.argv[2], "theirs", "t")
        print(answers, flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def another_process(folder: Path, run: TaskRun) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DRIVER, str(folder), run.id, stdout=PIPE
    )
    assert process.stdout
    assert await process.stdout.readline() == b"claimed\n"
    return process


async def said(process: Process) -> str:
    assert process.stdout
    return (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()


async def end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def test_an_answer_reaches_the_process_that_drives_the_run(
    tmp_path: Path, outsider: FolderAdapter
) -> None:
    run = await outsider.create_task_run(new_run())
    process = await another_process(tmp_path, run)
    try:
        answered = await outsider.answer(run.id, answer(1), SOON)
        assert (answered.status, answered.lease_token) == (Status.RUNNING, "theirs")
        assert (answered.answers, answered.events) == (1, (answer(1),))
        assert await said(process) == "1"
        assert inbox(tmp_path) == []
    finally:
        await end(process)


@pytest.mark.parametrize("happening", [PAUSE, CANCEL])
async def test_an_operator_takes_a_run_away_from_the_process_that_drives_it(
    tmp_path: Path, outsider: FolderAdapter, happening: Happening
) -> None:
    run = await outsider.create_task_run(new_run())
    await outsider.create_stack_run(new_call(run, 0))
    process = await another_process(tmp_path, run)
    try:
        changed = await outsider.change(run.id, happening, SOON)
        assert changed.status in {Status.PAUSED, Status.CANCELLED}
        assert changed.lease_token is None
        assert not await outsider.is_leased(changed, SOON)
        (call,) = await outsider.query_stack_runs(task_run_id=run.id)
        assert (call.status is CallStatus.CANCELLED) == (happening is CANCEL)
        assert await said(process) == "LeaseLostError"
    finally:
        await end(process)


async def test_the_next_step_of_a_run_that_was_paused_is_not_written(
    driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    told: list[str] = []
    await driver.watch(told.append)
    run = await driven(driver)
    told.clear()
    paused = await outsider.change(run.id, PAUSE, SOON)
    assert paused.status is Status.PAUSED
    await until(lambda: run.id in told)
    with pytest.raises(LeaseLostError):
        await driver.commit(Commit(evolve(run, turn=1), "token"))
    assert await driver.get_task_run(run.id) == paused
    unpaused = await outsider.change(run.id, UNPAUSE, SOON)
    assert await driver.wakeups(SOON) == [unpaused.id]


async def test_nothing_asks_the_disk_while_nothing_is_driven(driver: FolderAdapter) -> None:
    run = await driven(driver)
    assert driver._asking._thread is not None
    await driver.release(run.id, "token")
    await until(lambda: driver._asking._thread is None)
    await driver.claim(run.id, "token", NOW, LATER)
    assert driver._asking._thread is not None


@pytest.mark.usefixtures("idle")
async def test_a_run_that_is_parked_is_due_when_an_answer_lies_in_the_inbox(
    driver: FolderAdapter,
) -> None:
    run = await driven(driver)
    folder_inbox.post(driver.places.existing(run.id), Request(run.id, SOON, event=answer(1)))
    await driver.commit(parked(run, wake_at=None))
    assert await driver.wakeups(SOON) == [run.id]
    found = await driver.get_task_run(run.id)
    assert found
    assert (found.answers, found.events) == (1, (answer(1),))


@pytest.mark.usefixtures("idle")
async def test_a_run_given_back_has_what_was_asked_of_it(driver: FolderAdapter) -> None:
    run = await driven(driver)
    folder_inbox.post(driver.places.existing(run.id), Request(run.id, SOON, event=answer(1)))
    await driver.release(run.id, "token")
    found = await driver.get_task_run(run.id)
    assert found
    assert (found.answers, found.lease_token) == (1, None)


@pytest.mark.usefixtures("idle")
async def test_a_step_that_parks_a_run_asked_to_pause_is_not_written(
    driver: FolderAdapter,
) -> None:
    run = await driven(driver)
    folder_inbox.post(driver.places.existing(run.id), Request(run.id, SOON, happening=PAUSE))
    with pytest.raises(LeaseLostError):
        await driver.commit(parked(run, turn=1))
    found = await driver.get_task_run(run.id)
    assert found
    assert (found.status, found.turn) == (Status.PAUSED, 0)
    assert not await driver.is_leased(found, SOON)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.PENDING])
async def test_what_comes_after_the_last_look_is_carried_out_by_who_asks(
    driver: FolderAdapter,
    outsider: FolderAdapter,
    monkeypatch: pytest.MonkeyPatch,
    status: Status,
) -> None:
    run = await driven(driver)
    asking = asyncio.create_task(outsider.answer(run.id, answer(1), SOON))
    await until(lambda: bool(folder_inbox.waiting(driver.places.existing(run.id).runs)))
    monkeypatch.setattr(driver, "_carry_out", lambda lease: None)  # it has just looked
    await driver.commit(parked(run, status=status, wake_at=None))
    answered = await asking
    assert (answered.status, answered.events) == (status, (answer(1),))
    assert await driver.wakeups(SOON) == [run.id]


@pytest.mark.usefixtures("idle")
async def test_what_a_dead_process_has_asked_for_makes_a_run_due_and_is_carried_out_once(
    tmp_path: Path, driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    run = await driver.create_task_run(new_run(status=Status.SUSPENDED))
    place = driver.places.existing(run.id)
    assert await driver.wakeups(SOON) == []
    folder_inbox.post(place, Request(run.id, SOON, event=answer(1)))
    folder_inbox.post(place, Request(run.id, SOON))
    assert await driver.wakeups(SOON) == await outsider.wakeups(SOON) == [run.id]
    claimed = await driver.claim(run.id, "token", SOON, LATER)
    assert (claimed.answers, claimed.events) == (2, (answer(1),))
    assert inbox(tmp_path) == []
    await driver.close()
    cancelled = await outsider.create_task_run(new_run(status=Status.SUSPENDED))
    request = Request(cancelled.id, SOON, happening=CANCEL)
    folder_inbox.post(driver.places.existing(cancelled.id), request)
    with pytest.raises(InvalidTransitionError):
        await driver.claim(cancelled.id, "token", SOON, LATER)
    assert (await outsider.query_task_runs(status="cancelled"))[0].id == cancelled.id


@pytest.mark.usefixtures("idle")
async def test_a_request_whose_file_comes_back_is_not_carried_out_again(
    tmp_path: Path, driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    run = await driver.create_task_run(new_run(status=Status.SUSPENDED))
    place = driver.places.existing(run.id)
    name = folder_inbox.post(place, Request(run.id, SOON))
    (file,) = tmp_path.glob("*/runs/inbox/*")
    before = file.read_bytes()
    await driver.claim(run.id, "token", SOON, LATER)
    for back in (True, False):  # the power failed before its removal was safe
        file.write_bytes(before)
        if back:
            await driver.release(run.id, "token")
            Path(place.view).unlink()
        else:
            folder_inbox.post(place, Request(run.id, SOON))
        claimed = await driver.claim(run.id, "token", SOON, LATER)
        assert claimed.answers == (1 if back else 2)
        assert inbox(tmp_path) == []
        await driver.release(run.id, "token")
    state = folder_view.load(place)
    assert len(state.folded) == 1  # of the last ones only
    assert name not in state.folded


@pytest.mark.usefixtures("idle")
async def test_nothing_new_is_carried_out_before_the_last_files_are_gone_for_good(
    driver: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await driver.create_task_run(new_run(status=Status.SUSPENDED))
    place = driver.places.existing(run.id)
    folder_inbox.post(place, Request(run.id, SOON))
    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", lambda path: None)  # it dies before
        await driver.claim(run.id, "token", SOON, LATER)
        await driver.close()
    folder_inbox.post(place, Request(run.id, SOON))
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("unlink", "fdatasync", "fsync", "write")}

    def noted(name: str) -> Callable[..., Any]:
        def call(what: Any, *rest: Any) -> Any:
            path = what if isinstance(what, str) else os.readlink(f"/proc/self/fd/{what}")
            done.append(f"{name} {Path(path).suffix or Path(path).name}")
            return real[name](what, *rest)

        return call

    for name in real:
        monkeypatch.setattr(os, name, noted(name))
    lease = Lease(place)
    assert folder_inbox.carry_out(lease)
    lease.close()
    monkeypatch.undo()
    assert done == [
        "fdatasync .journal",
        "unlink .json",
        "fsync inbox",
        "write .journal",
        "fdatasync .journal",
        "unlink .json",
    ]
    assert lease.run.answers == 2


@pytest.mark.usefixtures("idle")
async def test_a_line_that_may_be_lost_is_made_safe_before_the_request_is_removed(
    driver: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await driver.create_task_run(new_run(status=Status.SUSPENDED))
    place = driver.places.existing(run.id)
    name = folder_inbox.post(place, Request(run.id, SOON))
    lease = Lease(place)  # it dies after writing and before synchronising
    lease.write(at=SOON, run=evolve(run, answers=1), folded=(name,), durable=False)
    lease.close()
    synchronised: list[bool] = []
    real = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        synchronised.append(folder_inbox.fate(place, name) is folder_inbox.Fate.WAITING)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    lease = Lease(place)
    assert not folder_inbox.carry_out(lease)
    lease.close()
    assert synchronised == [True]
    assert folder_inbox.fate(place, name) is folder_inbox.Fate.CARRIED_OUT


async def claimed_in_the_end(adapter: FolderAdapter, run: TaskRun) -> TaskRun:
    async with asyncio.timeout(10):
        while True:
            try:
                return await adapter.claim(run.id, "token", SOON, LATER)
            except RunBusyError:  # somebody answers just now
                await asyncio.sleep(0.002)


async def test_answers_from_many_sides_count_once_each(
    tmp_path: Path, driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    third = FolderAdapter(tmp_path)
    run = await driven(driver)
    everybody = (driver, outsider, third)
    asking = [
        asyncio.create_task(everybody[number % 3].answer(run.id, answer(number), SOON))
        for number in range(60)
    ]
    turn = 0
    while not all(task.done() for task in asking):
        turn += 1
        if turn % 5:
            await driver.commit(Commit(evolve(run, turn=turn), "token"))
        else:
            await driver.commit(parked(run, turn=turn))
            run = await claimed_in_the_end(driver, run)
        await asyncio.sleep(0.01)
    await asyncio.gather(*asking)
    found = await third.get_task_run(run.id)
    assert found
    assert found.answers == 60
    assert sorted(event.id for event in found.events) == sorted(answer(i).id for i in range(60))
    assert inbox(tmp_path) == []
    await third.close()


async def test_of_two_operators_who_cancel_at_once_one_is_told_that_it_is_over(
    tmp_path: Path, driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    third = FolderAdapter(tmp_path)
    for number in range(5):
        run = await driven(driver, id=new_run(number).id)
        tries = (outsider.change(run.id, CANCEL, SOON), third.change(run.id, CANCEL, SOON))
        results = await asyncio.gather(*tries, return_exceptions=True)
        (won,) = [result for result in results if isinstance(result, TaskRun)]
        assert won.status is Status.CANCELLED
        assert sum(isinstance(result, InvalidTransitionError) for result in results) == 1
    assert inbox(tmp_path) == []
    await third.close()


@pytest.mark.usefixtures("idle")
async def test_a_run_that_ends_before_it_was_asked_says_so(
    tmp_path: Path,
    driver: FolderAdapter,
    outsider: FolderAdapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = await driven(driver)
    asking = asyncio.create_task(outsider.answer(run.id, answer(1), SOON))
    await until(lambda: inbox(tmp_path) == [".json"])
    monkeypatch.setattr(driver, "_carry_out", lambda lease: None)
    await driver.commit(parked(run, status=Status.COMPLETED))
    with pytest.raises(InvalidTransitionError, match="is completed"):
        await asking
    assert inbox(tmp_path) == []
    found = await driver.get_task_run(run.id)
    assert found
    assert found.answers == 0


@pytest.mark.usefixtures("idle")
async def test_what_nobody_needs_any_more_is_removed(
    tmp_path: Path, driver: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await driven(driver)
    place = driver.places.existing(run.id)
    folder_inbox.post(place, Request(run.id, SOON, happening=UNPAUSE))
    driver._look_into_inboxes()
    assert inbox(tmp_path) == [".refused"]
    driver._look_into_inboxes()
    assert inbox(tmp_path) == [".refused"]
    name = f"run-{run.id}.{time.time_ns():020d}-{0:016x}.json.tmp"
    Path(place.inbox, name).write_text("{")  # who wrote it has died
    driver._look_into_inboxes()
    assert inbox(tmp_path) == [".refused", ".tmp"]
    assert await driver.damaged() == []
    monkeypatch.setattr(folder_inbox, "_FORGOTTEN", 0.0)
    await driver.release(run.id, "token")
    assert inbox(tmp_path) == []


async def test_an_operator_is_told_when_the_process_does_not_react_and_nothing_happens_later(
    tmp_path: Path, outsider: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_outsider, "CHANGE_PATIENCE", 0.2)
    monkeypatch.setattr(folder_outsider, "ANSWER_PATIENCE", 0.2)
    run = await outsider.create_task_run(new_run())
    process = await another_process(tmp_path, run)
    try:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(RunBusyError, match="does not react, so nothing was changed: end that"):
            await outsider.change(run.id, CANCEL, SOON)
        assert inbox(tmp_path) == []
        answered = await outsider.answer(run.id, answer(1), SOON)  # safe where it is
        assert (answered.answers, answered.events) == (1, (answer(1),))
        assert inbox(tmp_path) == [".json"]
        process.send_signal(signal.SIGCONT)
        assert await said(process) == "1"
        found = await outsider.get_task_run(run.id)
        assert found
        assert (found.status, found.events) == (Status.RUNNING, (answer(1),))
    finally:
        await end(process)


async def test_a_process_that_dies_with_requests_in_its_inbox_leaves_them_to_who_asks(
    tmp_path: Path, outsider: FolderAdapter
) -> None:
    run = await outsider.create_task_run(new_run())
    process = await another_process(tmp_path, run)
    try:
        process.send_signal(signal.SIGSTOP)
        asking = asyncio.create_task(outsider.change(run.id, CANCEL, SOON))
        await until(lambda: inbox(tmp_path) == [".json"])
        process.kill()
        assert (await asking).status is Status.CANCELLED
    finally:
        await end(process)


@pytest.mark.usefixtures("idle")
async def test_who_is_cancelled_while_asking_takes_it_back(
    tmp_path: Path, driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    run = await driven(driver)
    asking = asyncio.create_task(outsider.change(run.id, CANCEL, SOON))
    await until(lambda: inbox(tmp_path) == [".json"])
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert inbox(tmp_path) == []
    await driver.commit(Commit(evolve(run, turn=1), "token"))


@pytest.mark.usefixtures("idle")
async def test_what_is_being_carried_out_cannot_be_taken_back(
    driver: FolderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await driven(driver)
    place = driver.places.existing(run.id)
    name = folder_inbox.post(place, Request(run.id, SOON, happening=PAUSE))
    tries: list[bool] = []
    real = Lease.write

    def write(lease: Lease, **what: Any) -> None:
        tries.append(folder_inbox.withdraw(place, name))
        real(lease, **what)
        tries.append(folder_inbox.withdraw(place, name))

    monkeypatch.setattr(Lease, "write", write)
    driver._look_into_inboxes()
    assert tries == [False, False]
    found = await driver.get_task_run(run.id)
    assert found
    assert found.status is Status.PAUSED
    assert not folder_inbox.withdraw(place, name)
    name = folder_inbox.post(place, Request(run.id, SOON, happening=UNPAUSE))
    assert folder_inbox.withdraw(place, name)


def damage(place: RunFiles, name: str, change: Callable[[bytes], bytes]) -> None:
    path = Path(f"{place.inbox}/run-{place.run_id}.{name}.json")
    path.write_bytes(change(path.read_bytes()))


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "changed": (lambda text: text.replace(b"Ada", b"Bob"), "the checksum does not fit"),
    "cut": (lambda text: text[:-9], "the checksum does not fit"),
    "empty": (lambda text: b"", "the checksum does not fit"),
    "not a request": (
        lambda text: folder_journal.encode_line(folder_journal.Line(NOW, 1)),
        r"missing required field `run_id` - at `\$`",
    ),
    "of another run": (
        lambda text: folder_journal.encode_line(Request(new_run(9).id, NOW)),
        r"it belongs to run \w+-",
    ),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("kind", DAMAGES)
async def test_a_damaged_request_is_reported_and_stops_neither_the_run_nor_other_requests(
    tmp_path: Path, driver: FolderAdapter, kind: str
) -> None:
    change, reason = DAMAGES[kind]
    run = await driven(driver)
    place = driver.places.existing(run.id)
    first = folder_inbox.post(place, Request(run.id, SOON, event=answer(1)))
    folder_inbox.post(place, Request(run.id, SOON, event=answer(2)))
    damage(place, first, change)
    (before,) = await driver.damaged()
    driver._look_into_inboxes()
    found = await driver.get_task_run(run.id)
    assert found
    assert (found.answers, found.events) == (1, (answer(2),))
    assert inbox(tmp_path) == [".damaged"]
    (report,) = await driver.damaged()
    for line in (before, report):
        assert "\n" not in line
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(line)
        assert "is damaged: " in line
        assert "ask again for what was asked of the run, and delete the file" in line
    await driver.commit(parked(run))
    await driver.delete_task_run(run.id)
    assert await driver.damaged() == []
    assert inbox(tmp_path) == []


@pytest.mark.usefixtures("idle")
async def test_who_asked_learns_that_the_request_was_damaged(
    tmp_path: Path, driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    run = await driven(driver)
    asking = asyncio.create_task(outsider.answer(run.id, answer(1), SOON))
    await until(lambda: inbox(tmp_path) == [".json"])
    (file,) = tmp_path.glob("*/runs/inbox/*")
    file.write_bytes(b"?")
    driver._look_into_inboxes()
    with pytest.raises(StorageError, match="was damaged: ask again"):
        await asking


@pytest.mark.usefixtures("idle")
async def test_files_that_are_no_requests_are_left_alone(
    tmp_path: Path, driver: FolderAdapter
) -> None:
    run = await driven(driver)
    place = driver.places.existing(run.id)
    folder_inbox.post(place, Request(run.id, SOON))
    name = f"run-{run.id}.{0:020d}-{0:016x}.json"
    (tmp_path / "secret").write_text("{}")
    Path(place.inbox, name).symlink_to(tmp_path / "secret")
    os.mkfifo(Path(place.inbox, name.replace("-0000", "-1111")))
    Path(place.inbox, "note.txt").write_text("x")
    driver._look_into_inboxes()
    found = await driver.get_task_run(run.id)
    assert found
    assert found.answers == 1
    assert len(inbox(tmp_path)) == 3
    await driver.commit(parked(found, wake_at=None))
    assert await driver.wakeups(LATER) == []  # nobody is called for them again and again


@pytest.mark.parametrize("fault", ["write", "fsync", "link"])
async def test_a_full_disk_refuses_a_request_and_leaves_nothing_behind(
    tmp_path: Path,
    driver: FolderAdapter,
    outsider: FolderAdapter,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    run = await driven(driver)
    await outsider.answer(run.id, None, SOON)

    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, fault, full)
        for attempt in (
            outsider.answer(run.id, answer(1), SOON),
            outsider.change(run.id, PAUSE, SOON),
        ):
            with pytest.raises(StorageFullError, match=r"inbox/run-.*No space left.*make room"):
                await attempt
    assert inbox(tmp_path) == []
    answered = await outsider.answer(run.id, answer(2), SOON)
    assert (answered.answers, answered.events) == (2, (answer(2),))


@pytest.mark.usefixtures("idle")
async def test_a_run_that_is_deleted_while_it_is_asked_is_not_found(
    tmp_path: Path, driver: FolderAdapter, outsider: FolderAdapter
) -> None:
    run = await driven(driver)
    asking = asyncio.create_task(outsider.answer(run.id, answer(1), SOON))
    await until(lambda: inbox(tmp_path) == [".json"])
    place = driver.places.existing(run.id)
    next(tmp_path.glob("*/runs/*.journal")).unlink()
    await driver.close()
    with pytest.raises(RunNotFoundError):
        await asking
    assert inbox(tmp_path) == []
    Path(place.inbox).rmdir()
    for path in Path(place.runs).iterdir():
        path.unlink()
    Path(place.runs).rmdir()
    with pytest.raises(RunNotFoundError):
        folder_inbox.post(place, Request(run.id, SOON))
    assert not Path(place.runs).exists()


async def test_a_damaged_run_is_not_asked(tmp_path: Path, outsider: FolderAdapter) -> None:
    run = await outsider.create_task_run(new_run())
    next(tmp_path.glob("*/runs/*.journal")).write_bytes(b"?\n")
    with pytest.raises(DamagedRunError):
        await outsider.answer(run.id, answer(1), SOON)
    assert inbox(tmp_path) == []
