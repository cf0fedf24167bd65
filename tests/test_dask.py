"""dask arrays: lazily, in any chunks, the bits of NumPy's; on workers that share a layer, and that may die."""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conv1x1 as c11

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")


def scene(*shape: int, dtype: Any = np.uint16) -> Any:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def weight(filters: int, channels: int) -> Any:
    return np.random.default_rng(1).normal(size=(filters, channels)).astype(np.float32)


def quantised(filters: int, channels: int) -> c11.QConv1x1:
    w = np.random.default_rng(1).integers(-127, 128, (filters, channels)).astype(np.int8)
    return c11.QConv1x1(
        w, x_scale=1, x_zero_point=np.uint8(3), w_scale=0.01, w_zero_point=0, y_scale=1, y_zero_point=np.uint8(128)
    )


@st.composite
def cases(draw: Any) -> tuple[Any, ...]:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    axis, channels = draw(st.integers(0, len(shape))), draw(st.sampled_from([2, 4, 12]))
    shape = (*shape[:axis], channels, *shape[axis:])
    chunks = tuple(tuple(draw(pieces(n))) for n in shape)
    return (
        shape,
        chunks,
        axis,
        draw(st.sampled_from([1, 2, (3,)])),
        draw(st.sampled_from([0, 1, 2])),
        draw(st.booleans()),
    )


def pieces(n: int) -> Any:
    cuts = st.sets(st.integers(1, max(1, n - 1)), max_size=3).map(lambda s: sorted({0, n, *(c for c in s if c < n)}))
    return cuts.map(lambda at: [b - a for a, b in pairwise(at)])


@pytest.mark.filterwarnings("ignore:the channels of x:dask.array.PerformanceWarning")
@settings(deadline=None, max_examples=60)
@given(cases())
def test_any_chunks_give_the_bits_of_numpy(case: tuple[Any, ...]) -> None:
    shape, chunks, axis, stride, kind, adds = case
    channels = shape[axis]
    x = scene(*shape, dtype=[np.uint16, np.float64, np.uint8][kind])
    options = {"channel_axis": axis, "stride": stride}
    layers: list[Any] = [
        c11.Conv1x1(weight(6, channels // 2), groups=2, **options),
        c11.Conv1x1(weight(1, channels)[0], activation="silu", **options),
    ]
    if kind == 2:
        q = quantised(3, channels)
        layers = [type(q)._rebuilt(*q.__reduce__()[1][:3], q._options() | options, None)]
    for layer in layers:
        expected = layer(x)
        added = {"residual": np.ones_like(expected)} if adds and kind < 2 else {}
        lazy = layer(da.from_array(x, chunks), **added)
        assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
        computed = lazy.compute(scheduler="sync")
        assert computed.dtype == lazy.dtype
        np.testing.assert_array_equal(computed, layer(x, **added))


def test_the_function_takes_dask_arrays() -> None:
    x, w = scene(6, 5, 7), weight(4, 7)
    lazy = c11.conv1x1(da.from_array(x, (2, 3, 7)), w.reshape(4, 7, 1, 1), activation=("clip", 0, 9), dtype=np.uint8)
    np.testing.assert_array_equal(lazy.compute(), c11.conv1x1(x, w, activation=("clip", 0, 9), dtype=np.uint8))
    one = c11.conv1x1(da.from_array(x, (2, 3, 7)), w[:1].reshape(1, 1, 7))
    np.testing.assert_array_equal(one.compute(), c11.conv1x1(x, w[:1]))


def test_masked_chunks_give_masked_chunks() -> None:
    x = np.ma.masked_greater(scene(6, 5, 3), 180)
    w = weight(2, 3)
    lazy = c11.conv1x1(da.from_array(x, (2, 5, 3), asarray=False), w)
    computed, expected = lazy.compute(), c11.conv1x1(x, w)
    assert isinstance(computed, np.ma.MaskedArray)
    np.testing.assert_array_equal(computed.mask, np.ma.getmaskarray(expected))


def test_nothing_is_computed_while_the_graph_is_made() -> None:
    def block(_: Any) -> Any:
        raise AssertionError("computed")

    x = da.map_blocks(block, da.zeros((4, 6, 8), chunks=(2, 3, 8)), dtype=np.float32, meta=np.empty((0, 0, 0), "f4"))
    y = c11.Conv1x1(weight(3, 8), stride=2)(x)
    assert y.chunks == ((1, 1), (2, 1), (3,))
    with pytest.raises(AssertionError, match="computed"):
        y.compute(scheduler="sync")


def test_a_layer_is_in_the_graph_once() -> None:
    layer = c11.Conv1x1(weight(3, 8))
    graph = layer(da.zeros((40, 60, 8), chunks=(2, 3, 8))).__dask_graph__()
    assert len(graph) > 400
    assert sum(pickle.dumps(task).count(layer.weight.tobytes()) for task in dict(graph).values()) == 1


def test_tokens_are_of_what_is_in_a_layer() -> None:
    from dask.base import tokenize

    makes: list[Callable[[], Any]] = [
        lambda: c11.Conv1x1(weight(3, 8)),
        lambda: c11.Conv1x1(weight(3, 8), np.ones(3)),
        lambda: c11.Conv1x1(weight(3, 8), stride=2),
        lambda: c11.Conv1x1(weight(3, 8), activation="relu"),
        lambda: c11.Conv1x1(weight(3, 8), dtype=np.uint8),
        lambda: c11.Conv1x1(weight(3, 8) + 1),
        lambda: quantised(3, 8),
    ]
    tokens = [tokenize(make()) for make in makes]
    assert len(set(tokens)) == len(makes)
    assert tokens == [tokenize(pickle.loads(pickle.dumps(make()))) for make in makes]


def test_channels_in_chunks_are_joined_with_a_warning_and_no_chunk_grows() -> None:
    with dask.config.set({"array.chunk-size": "4 KiB"}):
        x = da.from_array(scene(32, 32, 64, dtype=np.float32), chunks=(16, 16, 8))
        with pytest.warns(da.PerformanceWarning, match=r"pass x.rechunk\(\{2: -1\}\)") as caught:
            y = c11.Conv1x1(weight(2, 64))(x)
    assert caught[0].filename == __file__
    assert max(y.chunks[0]) * max(y.chunks[1]) * 64 * 4 <= 16 * 16 * 8 * 4
    np.testing.assert_array_equal(y.compute(), c11.conv1x1(x.compute(), weight(2, 64)))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda x: c11.conv1x1(x, weight(2, 5)), ValueError, "has 7 channels on axis 2"),
        (lambda x: c11.conv1x1(x, weight(2, 5), channel_axis=3), ValueError, "outside x"),
        (lambda x: c11.conv1x1(x, weight(2, 7), out=np.empty((6, 5, 2))), TypeError, r"da.store\(result, out\)"),
        (
            lambda x: c11.conv1x1(x, weight(2, 7), residual=np.ones(2)),
            ValueError,
            r"expected the result's, \(6, 5, 2\)",
        ),
        (lambda x: c11.conv1x1(x.astype("U3"), weight(2, 7)), TypeError, "supported are"),
        (lambda x: quantised(2, 7)(x), TypeError, "quantised pixels are int8 or uint8"),
        (lambda x: c11.conv1x1(x, weight(2, 7), threads=0), ValueError, "threads must be"),
    ],
)
def test_what_is_wrong_is_said_while_the_graph_is_made(make: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        make(da.from_array(scene(6, 5, 7), (2, 3, 7)))


def threads_used(x: Any) -> Any:
    before = len(os.listdir("/proc/self/task"))
    c11.Conv1x1(weight(64, 64))(da.from_array(x, (64, 256, 64))).compute(scheduler="threads", num_workers=2)
    return len(os.listdir("/proc/self/task")) - before


def test_as_many_threads_compute_as_dask_has() -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # where no call has started threads
        started = pool.submit(threads_used, scene(256, 256, 64, dtype=np.float32)).result(120)
    assert started <= 2  # dask's


# ------------------------------------------------------------------------------------------------ workers


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


def slowly(block: Any) -> Any:
    time.sleep(0.05)
    return block


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_changes_no_byte(client: Any) -> None:
    x, layer = scene(64, 48, 16), c11.Conv1x1(weight(5, 16), activation="gelu")
    lazy = layer(da.from_array(x, (4, 12, 16)).map_blocks(slowly, dtype=x.dtype))
    future = client.compute(lazy)
    victim = next(iter(client.run(os.getpid).values()))
    os.kill(victim, signal.SIGKILL)
    np.testing.assert_array_equal(future.result(timeout=120), layer(x))


@pytest.mark.filterwarnings("ignore")
def test_from_store_to_store(client: Any, tmp_path: Any) -> None:
    zarr = pytest.importorskip("zarr")
    x, layer = scene(64, 48, 16), c11.Conv1x1(weight(5, 16), channel_axis=0)
    source = zarr.create_array(tmp_path / "x.zarr", shape=(16, 64, 48), chunks=(16, 16, 48), dtype=x.dtype)
    source[:] = np.moveaxis(x, -1, 0)
    layer(da.from_zarr(tmp_path / "x.zarr")).to_zarr(tmp_path / "y.zarr")
    np.testing.assert_array_equal(zarr.open(tmp_path / "y.zarr")[:], layer(np.moveaxis(x, -1, 0)))


@pytest.mark.filterwarnings("ignore")
def test_workers_start_no_threads_of_ours(client: Any) -> None:
    def tasks() -> int:
        return len(os.listdir("/proc/self/task"))

    x = da.random.random((512, 512, 64), chunks=(128, 512, 64)).astype(np.float32)
    c11.Conv1x1(weight(4, 64))(x).sum().compute()
    before = client.run(tasks)
    c11.Conv1x1(weight(64, 64))(x).sum().compute()
    assert client.run(tasks) == before


def test_a_pool_takes_all_pixels_and_so_no_blocks() -> None:
    net = c11.Sequential([c11.Conv1x1(np.ones((2, 3))), c11.Pool("mean")])
    with pytest.raises(TypeError, match="x is an array of dask, of which each pixel stands for itself, and the chain"):
        net(da.ones((4, 5, 3), chunks=2))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_covariance_of_chunks(dtype: Any) -> None:
    x = scene(20, 18, 5, dtype=dtype)
    weights = np.random.default_rng(3).random((20, 18)) < 0.5
    lazy = da.from_array(x, (7, 5, 5))
    for options in ({}, {"weights": weights}, {"nodata": 7}):
        found, expected = c11.covariance(lazy, **options), c11.covariance(x, **options)
        for one, other in zip(found, expected, strict=True):
            if dtype == np.uint16:
                np.testing.assert_array_equal(one, other)
            np.testing.assert_allclose(one, other, rtol=1e-11)
    np.testing.assert_allclose(c11.pca(lazy, 2)(x), c11.pca(x, 2)(x), atol=1e-3)
