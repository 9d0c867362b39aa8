"""The lone host's store, and a store that has moved, do what every store does; the real etcd: tests/engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from morgand.cluster.local import LocalStore
from morgand.cluster.store import Put
from morgand.cluster.switch import SwitchStore
from tests.unit.cluster.conformance import CASES, Case


@pytest.mark.parametrize("case", CASES)
async def test_the_local_store(case: Case, tmp_path: Path) -> None:
    await case(await LocalStore.open(tmp_path), "/x/")


@pytest.mark.parametrize("case", CASES)
async def test_a_store_that_has_moved(case: Case, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    store = SwitchStore(await LocalStore.open(tmp_path / "old"))
    for number in range(7):
        await store.txn([], [Put("/y", str(number).encode())])
    await store.move(await LocalStore.open(tmp_path))
    await case(store, "/x/")
