"""Processes that die, power that fails, bytes that change."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sequential.core.model import Commit, Status, evolve
from sequential.errors import DamagedRunError, RunBusyError
from sequential.storage import folder_view
from sequential.storage.folder import FolderAdapter
from sequential.storage.folder_journal import read_log, scan
from sequential.storage.folder_places import RunFiles
from sequential.testing.storage_contract import (
    LATER,
    NOW,
    SOON,
    delivered,
    new_call,
    new_run,
    text_of,
)
from support import killing


async def everything(adapter: FolderAdapter, run_id: str) -> bytes:
    """All that can be read of a run, as text."""
    run = await adapter.get_task_run(run_id)
    calls = await adapter.query_stack_runs(task_run_id=run_id)
    documents = await adapter.list_documents("tokens")
    return text_of([run, calls, await adapter.get_log(run_id), documents])


async def test_a_process_killed_at_any_system_call_leaves_all_of_a_commit_or_nothing(
    tmp_path: Path,
) -> None:
    expected = [text_of([None, [], [], []])]  # what is read after so many steps
    reader = FolderAdapter(tmp_path / "model" / "tasks")
    async for _ in killing.scenario(tmp_path / "model"):
        expected.append(await everything(reader, killing.RUN.id))
    assert len(set(expected)) == 8
    await reader.close()

    script = Path(killing.__file__)
    command = [sys.executable, str(script), str(tmp_path / "killed")]
    output = await asyncio.to_thread(subprocess.check_output, command, timeout=60)
    acknowledged = json.loads(output)
    assert len(acknowledged) > 60
    assert set(acknowledged.values()) == {*range(8)}
    for name, steps in acknowledged.items():
        adapter = FolderAdapter(tmp_path / "killed" / name / "tasks")
        found = await everything(adapter, killing.RUN.id)
        assert found in expected[steps : steps + 2], name
        assert await adapter.damaged() == []
        if expected.index(found):
            claimed = await adapter.claim(killing.RUN.id, "next", SOON, LATER)
            call = new_call(claimed, 99)
            await adapter.commit(Commit(evolve(claimed, turn=50), "next", (call,)))
            assert (await adapter.query_stack_runs(task_run_id=killing.RUN.id))[-1] == call
        await adapter.close()


CLAIM_AND_WAIT = """
import asyncio, sys
from sequential.storage.folder import FolderAdapter
async def main():
    await FolderAdapter(sys.argv[1]).claim(sys.argv[2], "theirs", "t", "t")
    print("claimed", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_run_of_a_killed_process_can_be_claimed_at_once(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLAIM_AND_WAIT, tmp_path, run.id, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    assert await process.stdout.readline() == b"claimed\n"
    driven = await adapter.get_task_run(run.id)
    assert driven
    assert driven.lease_token == "theirs"
    assert await adapter.is_leased(driven, LATER)
    assert await adapter.wakeups(LATER) == []
    with pytest.raises(RunBusyError):
        await adapter.claim(run.id, "ours", NOW, SOON)
    with pytest.raises(RunBusyError):
        await adapter.update_task_run(run.id, status=Status.PAUSED)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert not await adapter.is_leased(driven, NOW)
    assert await adapter.wakeups(NOW) == [run.id]
    assert (await adapter.claim(run.id, "ours", NOW, SOON)).lease_token == "ours"
    await adapter.close()


async def a_driven_run(folder: Path) -> tuple[RunFiles, bytes, bytes]:
    """A run in the middle of being driven: its view is older than its journal."""
    adapter = FolderAdapter(folder)
    run = await adapter.create_task_run(new_run())
    run = await adapter.claim(run.id, "token", NOW, SOON)
    calls = [new_call(run, i) for i in range(2)]
    await adapter.commit(Commit(evolve(run, turn=1), "token", tuple(calls)))
    before = await everything(adapter, run.id)
    updated = (delivered(calls[0], 2, result={"crc": "x", "text": "\n\0é"}),)
    await adapter.commit(Commit(evolve(run, turn=2), "token", (new_call(run, 2),), updated, "log"))
    after = await everything(adapter, run.id)
    await adapter.close()
    return RunFiles(adapter.folder, "my-task", run.id), before, after


@pytest.mark.parametrize("with_view", [True, False])
async def test_a_tail_torn_at_any_byte_is_ignored_and_cut(tmp_path: Path, with_view: bool) -> None:
    run, before, after = await a_driven_run(tmp_path)
    journal, view = Path(run.journal), Path(run.view)
    whole, seen = journal.read_bytes(), view.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    adapter = FolderAdapter(tmp_path)
    for cut in range(start, len(whole) + 1):
        journal.write_bytes(whole[:cut] + (b"\0" * 3 if start < cut < start + 20 else b""))
        if with_view:
            view.write_bytes(seen)
        else:
            view.unlink(missing_ok=True)
        expected = after if cut == len(whole) else before
        assert await everything(adapter, run.run_id) == expected
        assert journal.stat().st_size >= cut  # readers change nothing
        if cut % 11 == 0 or cut >= len(whole) - 1:
            await adapter.claim(run.run_id, "next", NOW, SOON)
            await adapter.release(run.run_id, "next")
            kept = journal.read_bytes()
            assert kept.startswith(whole if expected is after else whole[:start])
            assert kept.count(b"\n") == whole.count(b"\n") + 2 - (expected is before)
    await adapter.close()


def read_all(run: Any, *, scanning: bool) -> bytes:
    state = scan(run, 0) if scanning else folder_view.load(run)
    calls = [state.calls[number] for number in sorted(state.calls)]
    return text_of([state.run, calls, read_log(run)])


@pytest.mark.parametrize("file", ["journal", "view"])
async def test_every_changed_byte_is_noticed_or_harmless(tmp_path: Path, file: str) -> None:
    run, _, _ = await a_driven_run(tmp_path)
    path = Path(getattr(run, file))
    whole = path.read_bytes()
    scanning = file == "journal"
    expected = read_all(run, scanning=scanning)
    harmless = 0
    for position in range(len(whole)):
        for byte in {whole[position] ^ 1, whole[position] ^ 0x80, 10, 0, 32} - {whole[position]}:
            changed = bytearray(whole)
            changed[position] = byte
            path.write_bytes(changed)
            try:
                assert read_all(run, scanning=scanning) == expected, (position, byte)
                harmless += 1
            except DamagedRunError as error:
                shown = str(error)
                assert "\n" not in shown
                assert f"run-{run.run_id}.{'journal' if scanning else 'json'}" in shown
                assert "nothing was changed" in shown
            assert path.read_bytes() == changed
    assert harmless <= 2 * len(whole) // 100


async def test_damage_stops_the_run_and_no_other(tmp_path: Path) -> None:
    run, _, _ = await a_driven_run(tmp_path)
    adapter = FolderAdapter(tmp_path)
    other = await adapter.create_task_run(new_run(1))
    whole = Path(run.journal).read_bytes()
    second = whole.index(b"\n") + 10
    damaged = whole[:second] + b"?" + whole[second + 1 :]
    Path(run.journal).write_bytes(damaged)
    Path(run.view).unlink()
    for attempt in (
        adapter.get_task_run(run.run_id),
        adapter.claim(run.run_id, "t", NOW, SOON),
        adapter.load_calls(run.run_id),
        adapter.get_log(run.run_id),
        adapter.update_task_run(run.run_id, turn=1),
        adapter.query_stack_runs(task_run_id=run.run_id),
    ):
        with pytest.raises(DamagedRunError, match=r"\.journal is damaged in line 2 \(byte \d+\)"):
            await attempt
    assert Path(run.journal).read_bytes() == damaged
    assert await adapter.query_task_runs() == [other]
    assert await adapter.query_stack_runs() == []
    assert await adapter.wakeups(NOW) == [other.id]
    assert len(await adapter.damaged()) == 1
    assert await adapter.find_run_ids("") == sorted([run.run_id, other.id])
    Path(run.journal).write_bytes(whole)
    assert await adapter.damaged() == []
    assert (await adapter.claim(run.run_id, "t", NOW, SOON)).turn == 2
    await adapter.close()


BROKEN_VIEWS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "not JSON": (lambda view: view.replace(b":", b";", 1), r"\(byte \d+\)"),
    "cut": (lambda view: view[:200], r"\(byte 200\)"),
    "another shape": (lambda view: b'{"id": 1}', r"\$\.id"),
    "changed": (lambda view: view.replace(b"running", b"paused!"), r"`\$\.status`"),
    "edited": (lambda view: view.replace(b'"running"', b'"failed"'), r"checksum \(byte \d+\)"),
}


@pytest.mark.parametrize("kind", BROKEN_VIEWS)
async def test_a_damaged_view_is_reported_and_made_again_once_moved_away(
    tmp_path: Path, kind: str
) -> None:
    run, _, after = await a_driven_run(tmp_path)
    adapter = FolderAdapter(tmp_path)
    other = await adapter.create_task_run(new_run(1))
    change, place = BROKEN_VIEWS[kind]
    view = Path(run.view)
    view.write_bytes(broken := change(view.read_bytes()))
    with pytest.raises(DamagedRunError, match=place) as caught:
        await adapter.claim(run.run_id, "t", NOW, SOON)
    assert re.search(
        r"run-[0-9a-f-]+\.json is damaged.*journal beside it is intact: move", str(caught.value)
    )
    assert view.read_bytes() == broken
    assert await adapter.query_task_runs() == [other]
    assert await adapter.damaged() == [str(caught.value)]
    view.rename(tmp_path / "aside")
    assert await everything(adapter, run.run_id) == after
    await adapter.claim(run.run_id, "t", NOW, SOON)
    assert json.loads(view.read_bytes())["lease_token"] == "t"
    await adapter.close()


@pytest.mark.parametrize("empty", [None, b"", b"\0" * 4096])
async def test_a_view_lost_with_the_power_is_made_again(
    tmp_path: Path, empty: bytes | None
) -> None:
    run, _, after = await a_driven_run(tmp_path)
    adapter = FolderAdapter(tmp_path)
    Path(run.view).unlink() if empty is None else Path(run.view).write_bytes(empty)
    assert await everything(adapter, run.run_id) == after
    assert [r.turn for r in await adapter.query_task_runs()] == [2]
    claimed = await adapter.claim(run.run_id, "t", NOW, SOON)
    shown = json.loads(Path(run.view).read_bytes())
    assert (shown["status"], shown["turn"]) == ("running", 2)
    assert [call["sequence"] for call in shown["waiting_for"]] == [1, 2]
    await adapter.commit(Commit(evolve(claimed, turn=3), "t"))
    await adapter.close()


async def test_a_view_ahead_of_its_journal_is_reported(tmp_path: Path) -> None:
    run, _, _ = await a_driven_run(tmp_path)
    adapter = FolderAdapter(tmp_path)
    await adapter.claim(run.run_id, "t", NOW, SOON)
    await adapter.close()
    whole = Path(run.journal).read_bytes()
    Path(run.journal).write_bytes(whole[: whole.index(b"\n") + 1])
    with pytest.raises(DamagedRunError, match=r"ends at byte .* was made from"):
        await adapter.get_task_run(run.run_id)
    Path(run.journal).write_bytes(b"x" + whole.replace(b"\n", b" ", 3))
    with pytest.raises(DamagedRunError, match="does not belong to the journal"):
        await adapter.get_task_run(run.run_id)
    await adapter.close()


@pytest.mark.parametrize("content", [b"", b"{", b"garbage\n", b"\0" * 100])
async def test_a_journal_without_its_first_line_is_damage(tmp_path: Path, content: bytes) -> None:
    run, _, _ = await a_driven_run(tmp_path)
    Path(run.journal).write_bytes(content)
    Path(run.view).unlink()
    adapter = FolderAdapter(tmp_path)
    with pytest.raises(DamagedRunError, match="line 1"):
        await adapter.claim(run.run_id, "t", NOW, SOON)
    assert Path(run.journal).read_bytes() == content
    await adapter.close()


async def test_losing_the_line_of_a_claim_loses_nothing(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run())
    journal = next(tmp_path.glob("*/runs/*.journal"))
    created = journal.read_bytes()
    await adapter.claim(run.id, "t", NOW, SOON)
    await adapter.close()
    journal.write_bytes(created)  # the power failed; the view came through, the line did not
    reader = FolderAdapter(tmp_path)
    found = await reader.get_task_run(run.id)
    assert found
    assert found.turn == 0
    assert await reader.wakeups(NOW) == [run.id]
    await reader.claim(run.id, "t", NOW, SOON)
    await reader.close()


async def test_a_large_value_that_is_missing_or_changed_is_reported(tmp_path: Path) -> None:
    adapter = FolderAdapter(tmp_path)
    run = await adapter.create_task_run(new_run(input={"text": "x" * 70_000}))
    (file,) = tmp_path.glob("*/runs/run-*.data/*.json")
    assert next(tmp_path.glob("*/runs/*.journal")).stat().st_size < 2000
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(DamagedRunError, match=r"run-input-\w+\.json is damaged: its \d+ bytes"):
        await adapter.get_task_run(run.id)
    file.unlink()
    with pytest.raises(DamagedRunError, match="the file is missing"):
        await adapter.claim(run.id, "t", NOW, SOON)
    assert [found.id for found in await adapter.query_task_runs()] == [run.id]  # loads none
    file.write_bytes(whole)
    assert (await adapter.claim(run.id, "t", NOW, SOON)).input == {"text": "x" * 70_000}
    await adapter.close()
