"""The snapshot of the last good tables."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siger_gateway.config.schema import EndpointSpec
from siger_gateway.discovery.snapshot import NotASnapshot, Snapshot, Tables, decode, encode

USERS = (EndpointSpec("127.0.0.1:9001", 1), EndpointSpec("[fd00::1]:9002", 3))
SECURE = EndpointSpec("127.0.0.1:9003", 1, "https")
TABLES = Tables({"users": USERS, "empty": ()}, ("empty", "users"))
CONTENT = encode(TABLES, 1000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "discovery.json"


async def save(path: Path, *tables: Tables) -> Snapshot:
    snapshot = Snapshot(path)
    for one in tables:
        snapshot.save(one)
    await snapshot.close()
    return snapshot


async def test_what_was_saved_is_loaded(path: Path) -> None:
    await save(path, TABLES)
    fresh = Snapshot(path)
    assert fresh.age is None
    assert fresh.load() == TABLES
    assert fresh.age is not None
    assert 0 <= fresh.age < 10


def test_an_endpoint_keeps_its_protocol_and_an_older_file_has_none() -> None:
    content = encode(Tables({"users": (SECURE,)}), 1.0)
    assert decode(content).services["users"] == (SECURE,)
    older = content.replace(b',"protocol":"https"', b"")
    assert older != content
    assert decode(older).services["users"] == (EndpointSpec("127.0.0.1:9003"),)
    with pytest.raises(NotASnapshot):
        decode(content.replace(b'"https"', b'"gopher"'))


async def test_closing_writes_at_once_what_was_to_be_written_later(path: Path) -> None:
    snapshot = Snapshot(path, delay=3600)
    snapshot.save(TABLES)
    async with asyncio.timeout(5):
        await snapshot.close()
    assert Snapshot(path).load() == TABLES


async def test_a_burst_of_changes_is_one_write_of_the_last(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    await save(path, *(Tables({"users": USERS[:n]}) for n in (0, 1, 2)))
    assert Snapshot(path).load() == Tables({"users": USERS})
    assert len(syncs) == 1


async def test_nothing_else_is_left_in_the_folder(path: Path) -> None:
    await save(path, TABLES)
    await save(path, TABLES)
    assert os.listdir(path.parent) == [path.name]


async def test_a_disk_that_fails_is_logged_once_and_used_again_when_it_works(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.write_text("a file where the folder should be")
    snapshot = Snapshot(path, delay=0.0)
    for _ in range(3):
        snapshot.save(TABLES)
        await _written(snapshot)
    assert [one.message for one in caplog.records] == ["discovery snapshot cannot be saved"]
    path.parent.unlink()
    snapshot.save(TABLES)
    await snapshot.close()
    assert Snapshot(path).load() == TABLES


async def _written(snapshot: Snapshot) -> None:
    task = snapshot._task
    assert task is not None
    await task


def test_without_a_file_there_are_no_tables_and_no_complaint(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Snapshot(path).load() is None
    assert not caplog.records


def test_a_folder_or_a_pipe_is_no_snapshot(tmp_path: Path) -> None:
    assert Snapshot(tmp_path).load() is None
    os.mkfifo(tmp_path / "pipe")
    assert Snapshot(tmp_path / "pipe").load() is None


def test_a_file_that_is_not_ours_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "discovery.json"
    path.write_bytes(b"PK\x03\x04")
    assert Snapshot(path).load() is None
    assert [one.message for one in caplog.records] == ["discovery snapshot is not used"]
    assert path.read_bytes() == b"PK\x03\x04"


@pytest.mark.parametrize("length", range(len(CONTENT)))
def test_a_file_that_was_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(NotASnapshot):
        decode(CONTENT[:length])


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"saved_at": "now"},
        {"services": {"users": [{"address": "127.0.0.1", "weight": 1}]}},
        {"services": {"users": [{"address": "127.0.0.1:0", "weight": 1}]}},
        {"services": {"users": [{"address": "a:1", "weight": 0}]}},
        {"services": {"users": [{"address": "a:1", "weight": 1001}]}},
        {"services": {"a/b": []}},
        {"names": ["../etc"]},
        {"names": [1]},
        {"tags": {"users": "siger.path=/"}},
    ],
)
def test_what_the_gateway_would_never_have_written_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(NotASnapshot):
        decode(json.dumps({**json.loads(CONTENT), **change}).encode())


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(NotASnapshot):
        decode(b'{"x":' * 100_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_nothing_else_happens(content: bytes) -> None:
    with pytest.raises(NotASnapshot):
        decode(content)


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_still_makes_sound_tables(at: int, byte: int) -> None:
    content = bytearray(CONTENT)
    content[at] = byte
    try:
        found = decode(bytes(content))
    except NotASnapshot:
        return
    for endpoints in found.services.values():
        assert all(":" in one.address and 1 <= one.weight <= 1000 for one in endpoints)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
        st.lists(st.builds(EndpointSpec, st.just("h:1"), st.integers(1, 1000))).map(tuple),
    )
)
def test_tables_survive_the_file(services: dict[str, tuple[EndpointSpec, ...]]) -> None:
    found = decode(encode(Tables(services), 1.0))
    assert found.services == services


def test_tags_survive_the_file_and_files_of_earlier_versions_have_none() -> None:
    tables = Tables({}, ("orders", "users"), {"users": ("siger.path=/u",)})
    assert decode(encode(tables, 1.0)).tags == tables.tags
    assert tables.catalog == {"orders": (), "users": ("siger.path=/u",)}
    old = json.loads(CONTENT)
    del old["tags"]
    assert decode(json.dumps(old).encode()).tags == {}
