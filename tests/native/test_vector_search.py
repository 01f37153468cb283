"""Search gives what brute force in numpy gives, up to ties, and refuses what has no order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from perfuse import ArrowStorage, VectorSearch
from perfuse.errors import InvalidRequest

METRICS = ["cosine", "inner_product", "l2"]


def exact(metric: str, queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores in float64, as the metric counts them."""
    q, x = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return np.linalg.norm(q[:, None] - x[None], axis=-1)
    scores = q @ x.T
    return scores / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(x, axis=1) if metric == "cosine" else scores


def check(metric: str, scores: NDArray[np.float64], found: pa.Table, k: int, alive: NDArray[np.bool_]) -> None:
    """`found` holds, per query, the k best of the rows alive, where rows within rounding of each other may swap."""
    order = scores if metric == "l2" else -scores
    for query in range(len(scores)):
        of_query = found.filter(pc.equal(found["_query"], query))
        ids = of_query["row"].to_numpy()
        expected = np.sort(order[query][alive])[:k]
        assert len(set(ids)) == len(expected)
        assert alive[ids].all()
        tolerance = 1e-5 * (1 + np.abs(order).max())
        np.testing.assert_allclose(order[query][ids], expected, atol=tolerance)
        np.testing.assert_allclose(of_query["_score"].to_numpy(), scores[query][ids], atol=tolerance)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 130), st.integers(1, 600), st.integers(1, 20), st.sampled_from(METRICS)
)
def test_search_is_brute_force_up_to_ties(seed: int, width: int, count: int, k: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    vectors[count // 2 :] = vectors[: count - count // 2]  # every second row has a twin
    queries = rng.normal(size=(3, width)).astype(np.float32)
    search = VectorSearch(vectors, metric)
    assert len(search) == count
    check(metric, exact(metric, queries, vectors), pa.table(search.search(queries, k)), k, np.ones(count, bool))


@pytest.mark.parametrize("metric", METRICS)
def test_a_table_is_searched_exactly_over_puts_replacements_deletions_and_filters(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(3)
    width, count = 24, 300
    kind = pa.list_(pa.float32(), width)
    schema = pa.schema([pa.field("row", pa.int64()), pa.field("even", pa.bool_()), pa.field("v", kind, nullable=False)])
    vectors = rng.normal(size=(count, width)).astype(np.float32)

    def batch(ids: NDArray[np.int64], values: NDArray[np.float32]) -> pa.Table:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
        return pa.table([pa.array(ids), pa.array(ids % 2 == 0), lists.cast(kind)], schema=schema)

    with ArrowStorage.open(tmp_path) as store:
        store.create_table("t", schema, "row", "v", metric)
        for start in range(0, count, 37):
            ids = np.arange(start, min(start + 37, count))
            store.put("t", batch(ids, rng.normal(size=(len(ids), width)).astype(np.float32)))
            store.put("t", batch(ids, vectors[ids]))
        gone = np.arange(0, count, 5)
        store.delete("t", [int(row) for row in gone])
        alive = np.ones(count, bool)
        alive[gone] = False
        queries = rng.normal(size=(4, width)).astype(np.float32)
        scores = exact(metric, queries, vectors)
        check(metric, scores, pa.table(store.search("t", queries, 10, None, ["row"])), 10, alive)
        even = alive & (np.arange(count) % 2 == 0)
        check(metric, scores, pa.table(store.search("t", queries, 10, {"even": True}, ["row"])), 10, even)
        found = pa.table(store.search("t", queries[0], 1000))
        assert found.schema.names == ["_query", "_score", "row", "even", "v"]
        assert len(found) == alive.sum()
        assert len(store.search("t", queries, 0)) == 0


def test_equal_scores_come_in_the_order_of_the_rows() -> None:
    found = pa.table(VectorSearch(np.ones((5, 3), np.float32)).search(np.ones(3, np.float32), 4))
    assert found["row"].to_pylist() == [0, 1, 2, 3]


def test_vectors_come_from_arrow_too() -> None:
    vectors = pa.array([[1, 0], [0, 1]], pa.list_(pa.float32(), 2))
    found = pa.table(VectorSearch(vectors, "l2").search(pa.chunked_array([vectors.slice(1)]), 1))
    assert found.to_pydict() == {"_query": [0], "row": [1], "_score": [0.0]}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.nan, "vector 1 holds NaN or infinity"),
        (-np.inf, "vector 1 holds NaN or infinity"),
        (3e38, "vector 1 is longer than 3e18, so float32 sums over it would overflow"),
        (0.0, "vector 1 is shorter than 1e-15, so it has no direction to compare"),
    ],
)
def test_vectors_without_a_place_in_the_order_are_refused(value: float, problem: str) -> None:
    hostile = np.array([[1, 1], [value, 0]], np.float32)
    with pytest.raises(InvalidRequest) as refused:
        VectorSearch(hostile)
    assert refused.value.detail == problem
    with pytest.raises(InvalidRequest) as refused:
        VectorSearch(np.ones((2, 2), np.float32)).search(hostile, 1)
    assert refused.value.detail == f"queries: {problem}"


def test_vectors_of_another_shape_or_type_are_refused() -> None:
    search = VectorSearch(np.ones((2, 3), np.float32))
    cube, doubles = np.ones((1, 1, 3), np.float32), np.ones(3)
    with pytest.raises(InvalidRequest, match=r"^queries: expected 3 floats each, came 2$"):
        search.search(np.ones(2, np.float32), 1)
    with pytest.raises(
        InvalidRequest, match=r"^expected vectors of shape \(width,\) or \(rows, width\), came \[1, 1, 3\]$"
    ):
        search.search(cube, 1)
    with pytest.raises(InvalidRequest, match=r"^expected vectors as an Arrow array or a float32 buffer: "):
        search.search(doubles, 1)
    with pytest.raises(
        InvalidRequest, match=r"^expected vectors as fixed-size lists of float without null, came Int64$"
    ):
        search.search(pa.array([1]), 1)
    with pytest.raises(InvalidRequest, match=r'^expected metric "cosine", "inner_product" or "l2", came "hamming"$'):
        VectorSearch(np.ones((2, 3), np.float32), "hamming")


def test_a_table_without_vectors_is_not_searched(tmp_path: Path) -> None:
    with ArrowStorage.open(tmp_path) as store:
        store.create_table("t", pa.schema([("n", pa.int64())]), "n")
        with pytest.raises(InvalidRequest, match=r'^table "t" has no vector column$'):
            store.search("t", np.ones(2, np.float32), 1)
