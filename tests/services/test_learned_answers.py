"""A real engine beside a store that learns: the shipped model embeds, scores, and answers with what it is taught."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import torch

import processes
from adapting import domain_of
from perfuse.dispatch.engines import EnginePool
from perfuse.errors import InvalidRequest
from perfuse.models.lora import fresh, to_bytes
from perfuse.models.text import read_config
from perfuse.pipelines.shipped import SHIPPED
from perfuse.requests import EmbedRequest, EmbedResult, ScoreRequest, ScoreResult, TextRequest, TextResult
from perfuse.store.blobs import FOLDER, Blobs
from perfuse.store.kit import Kit, read_kit
from perfuse.store.learning import ADAPTATIONS, TABLES, Adaptation, domains
from perfuse.store.store import Store

PROMPT = "Return the sum of a list."
MODEL = SHIPPED / "code-small"


@pytest_asyncio.fixture
async def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EnginePool]:
    monkeypatch.setattr(processes, "ENGINE", (sys.executable, "-m", "perfuse.engine.worker"))
    with Store(tmp_path / "store"):
        pass
    store = str(tmp_path / "store")
    engine = processes.EngineProcess(tmp_path, data_dir=str(tmp_path), store=store, models=[str(MODEL)])
    made = EnginePool([str(engine.path)])
    await made.start()
    async with asyncio.timeout(60):
        while not made.ready:
            await asyncio.sleep(0.05)
    yield made
    await made.close()
    engine.stop()


def champion(kit: Kit, vector: bytes, blob: str) -> Adaptation:
    return Adaptation(
        id="ad_" + "1" * 32, tenant="t", cluster="c", kind="lora", blob=blob, parent=None, base=kit.base,
        embedder=kit.embedder.hash, dataset="d", feedback=(), sources=(), seed=0, config="{}", report="",
        state="champion", reason="", centroid=tuple(np.frombuffer(vector, "<f4").tolist()), radius=0.01,
        created=1.0, changed=1.0,
    )  # fmt: skip


async def test_an_engine_answers_with_what_is_learned_while_it_runs(pool: EnginePool, tmp_path: Path) -> None:
    kit = read_kit(MODEL)
    assert kit is not None
    assert [model.modality for model in pool.models] == ["text"]
    request = TextRequest(prompt=PROMPT, length=8, reproducible=True)
    before = await pool.run("text", request, tenant="t")
    embedded = (await pool.run("embedding", EmbedRequest(prompts=(PROMPT,), reproducible=True))).result
    assert isinstance(embedded, EmbedResult)
    score = (await pool.run("score", ScoreRequest(prompt=PROMPT, text="pass"))).result
    assert isinstance(score, ScoreResult)
    assert score.bits > 0

    blob = Blobs(tmp_path / "store" / FOLDER).put(
        to_bytes(fresh(read_config(MODEL).network, 4, 4.0, torch.Generator().manual_seed(0)))
    )
    record = champion(kit, embedded.vectors[0], blob)
    table = domains(kit.embedder.width)
    with Store(tmp_path / "store", [*TABLES, table.spec]) as store:
        store.commit([ADAPTATIONS.put(record), table.put(domain_of(record))])
        after = await pool.run("text", request, tenant="t")
        other = await pool.run("text", request, tenant="other")
        with pytest.raises(InvalidRequest, match=r"^no adaptation 'ad_1{32}' serves this tenant and model$"):
            await pool.run("text", TextRequest(adaptation=record.id), tenant="other")
    assert isinstance(after.result, TextResult)
    assert [each.id for each in after.result.attribution] == [record.id]
    assert after.lsn > before.lsn
    assert other.result == before.result
