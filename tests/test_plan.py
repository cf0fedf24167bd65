"""What `layer.plan(x)` promises: the order of summation, one thread for small work, and tiles that never grow."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, _conv1x1
from conv1x1.runtime import restricted

#: Instruction sets with kernels of quads of 8-bit integers only, and whose kernels they have for all else.
ADDS_QUADS_TO = {"avx512vnni": "avx512", "neondot": "neon"}

KEYS = {
    "kernel": str,
    "isa": str,
    "arithmetic": str,
    "dtype": str,
    "orientation": str,
    "order": str,
    "rows": int,
    "lanes": int,
    "tile_pixels": int,
    "tiles": int,
    "chunk_filters": int,
    "channel_block": int,
    "threads": int,
    "strided_axes": tuple,
    "memory_order": tuple,
    "stages_x": bool,
    "scratches_y": bool,
    "scratch_bytes": int,
    "tried": tuple,
}


def sparse(*shape: int, dtype: Any = np.float32) -> Any:
    """An array of any size that takes no room."""
    return np.broadcast_to(np.ones(1, dtype), shape)


def layer(filters: int, channels: int, **options: Any) -> Conv1x1:
    return Conv1x1(np.ones((filters, channels), np.float32), **options)


def test_what_is_in_a_plan(isa: str) -> None:
    plan = layer(16, 192).plan(sparse(28, 28, 192))
    assert {name: type(value) for name, value in plan.items()} == KEYS
    assert plan["isa"] == isa
    assert (plan["arithmetic"], plan["dtype"]) == ("float32", "float32")
    its_own = {k["isa"] for k in _conv1x1.kernels() if (k["name"], k["dtype"]) == (plan["kernel"], "float32")}
    assert its_own == {ADDS_QUADS_TO.get(isa, isa)}
    assert plan["orientation"] == "pixels_as_rows"
    assert not plan["stages_x"]
    assert not plan["scratches_y"]
    assert plan["tiles"] == -(-784 // plan["tile_pixels"])


# With vectors of four, as NEON's and the portable ones are, the planner may find rows as good.
@pytest.mark.parametrize("isa", [name for name in _conv1x1.config()["isas_supported"] if name.startswith("avx")])
def test_channels_first_has_pixels_as_lanes(isa: str) -> None:
    with restricted(isa=isa):
        plan = layer(144, 24, channel_axis=0).plan(np.ones((24, 56, 56), np.float32))
    assert plan["orientation"] == "pixels_as_lanes"
    assert not plan["stages_x"]
    assert not plan["scratches_y"]
    assert plan["scratch_bytes"] == 0


def test_few_filters(isa: str) -> None:
    assert layer(3, 192).plan(np.ones((28, 28, 192), np.float32))["orientation"] == "few_filters"
    assert layer(3, 192, channel_axis=0).plan(np.ones((192, 28, 28), np.float32))["orientation"] == "pixels_as_lanes"


@pytest.mark.parametrize(("channels", "filters"), list(product([1, 31, 32, 33, 1000], [1, 3, 4, 5, 64])))
def test_order_of_summation(isa: str, channels: int, filters: int) -> None:
    """Lane order for at most 4 filters over at least 32 channels of a group, whatever else."""
    expected = "lanes" if filters <= 4 and channels >= 32 else "chain"
    for groups, pixels, dtype in product([1, 2, 7], [(), (1000,), (3, 4)], [np.float32, np.float64]):
        shape = (*pixels, channels * groups)
        plain = layer(filters * groups, channels, groups=groups)
        assert plain.plan(sparse(*shape, dtype=dtype))["order"] == expected, (groups, shape)
        first = layer(filters * groups, channels, groups=groups, channel_axis=0)
        assert first.plan(sparse(*shape[::-1], dtype=dtype).copy())["order"] == expected, (groups, shape)


def test_a_vector_of_weights_counts_as_one_filter() -> None:
    assert Conv1x1(np.ones(31)).plan(sparse(5, 31))["order"] == "chain"
    assert Conv1x1(np.ones(32)).plan(sparse(5, 32))["order"] == "lanes"


@pytest.mark.calm
@pytest.mark.parametrize("shape", [(64,), (1, 64), (7, 7, 64), (9, 9, 64)])
def test_small_work_stays_on_one_thread(isa: str, shape: Any) -> None:
    plan = layer(32, 64).plan(sparse(*shape), threads=8)
    assert plan["threads"] == 1


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_large_work_has_units_for_every_thread(isa: str, threads: int) -> None:
    for shape, filters in [((112, 112, 64), 64), ((1, 4096), 4096), ((3000, 3000, 16), 1), ((7, 7, 2048), 512)]:
        plan = layer(filters, shape[-1]).plan(sparse(*shape), threads=threads)
        assert plan["threads"] == threads
        assert plan["tiles"] * -(-filters // plan["chunk_filters"]) >= threads
        assert layer(filters, shape[-1]).plan(sparse(*shape), threads=1)["threads"] == 1


SIZES = [
    ((10**6, 10**3), 4),
    ((10**6, 10**3), 300),
    ((10**9, 16), 5),
    ((3000, 3000, 300), 31),
    ((100_000, 100_000, 3), 1),
    ((10**3, 10**5), 5),
    ((10**3, 10**5), 37),
    ((10**3, 10**6), 5),
    ((10**3, 10**5), 4),
    ((10, 4), 10**6),
    ((10**5, 4), 10**6),
    ((1, 10**6), 5),
]


@pytest.mark.parametrize(("shape", "filters"), SIZES)
@pytest.mark.parametrize("dtypes", list(product(["f4", "f8"], repeat=2)))
def test_scratch_is_small_whatever_the_array(shape: Any, filters: int, dtypes: Any, isa: str) -> None:
    """No tile grows with the pixels, the channels or the filters; in either layout, staged or not."""
    x_type, y_type = dtypes
    channels = shape[-1]
    w = np.ones((filters, channels), np.float32)
    for x, axis in [
        (sparse(*shape, dtype=x_type), -1),  # every stride is 0
        (sparse(channels, *shape[:-1], dtype=x_type), 0),
    ]:
        for threads in (1, 4):
            one = Conv1x1(w, channel_axis=axis, dtype=y_type)
            assert one.plan(x, threads=threads)["scratch_bytes"] < 2e6
            for orientation in ("pixels_as_rows", "pixels_as_lanes"):
                with restricted(isa=isa, orientation=orientation):
                    assert one.plan(x, threads=threads)["scratch_bytes"] < 2e6


@pytest.mark.parametrize(("channels", "filters"), [(1, 3), (3, 3), (300, 2), (20_000, 5), (5, 20_000), (3000, 3000)])
@pytest.mark.parametrize(("x_type", "y_type"), [("f4", "f4"), ("f8", "f8"), ("u1", "f4"), ("f4", "f8")])
def test_scratch_is_small_where_the_pixels_are_turned(
    channels: int, filters: int, x_type: str, y_type: str, isa: str
) -> None:
    def lying(order: tuple[int, ...], dtype: str, depth: int, axis: int) -> Any:
        """500×600 pixels whose axes lie in memory in that order, none of which is there."""
        shape = [500, 600]
        shape.insert(axis, depth)
        one, strides = np.zeros(1, dtype), [0, 0, 0]
        step = one.itemsize
        for i in reversed(order):
            strides[i] = step
            step *= shape[i]
        return np.lib.stride_tricks.as_strided(one, shape, strides)

    w = np.ones((filters, channels), np.float32)
    for x_order, y_order, axis in [((0, 1, 2), (0, 2, 1), 0), ((0, 1, 2), (1, 0, 2), 2), ((2, 1, 0), (0, 1, 2), 2)]:
        one = Conv1x1(w, channel_axis=axis)
        x, out = lying(x_order, x_type, channels, axis), lying(y_order, y_type, filters, axis)
        for threads in (1, 4):
            assert one._plan(x, None, out, threads)["scratch_bytes"] < 2e6


def test_scratch_where_nothing_needs_it(isa: str) -> None:
    assert layer(16, 192).plan(np.ones((28, 28, 192), np.float32))["scratch_bytes"] == 0
    assert layer(16, 192).plan(np.ones((192,), np.float32))["scratch_bytes"] == 0
    assert layer(1, 192).plan(np.ones((28, 28, 192), np.float32))["scratch_bytes"] == 0


def test_a_plan_touches_nothing() -> None:
    """Neither x's numbers, which take no room here, nor memory for a result that would fill terabytes."""
    plan = layer(64, 4).plan(sparse(2**20, 2**20, 4), threads=2)
    assert plan["tiles"] > 10**6


def test_a_plan_does_not_change_with_the_batch(isa: str) -> None:
    """The kernel may; the order of summation, which is part of the result, may not."""
    for channels, filters in [(32, 4), (192, 64), (31, 1)]:
        one = layer(filters, channels)
        assert len({one.plan(sparse(n, 28, 28, channels))["order"] for n in (1, 2, 8, 64, 4096)}) == 1


def test_the_list_of_kernels() -> None:
    """One table is the truth: names are unique, and every instruction set has kernels for every type and order."""
    kernels, config = _conv1x1.kernels(), _conv1x1.config()
    names = [k["name"] for k in kernels]
    assert len(set(names)) == len(names)
    assert {k["isa"] for k in kernels} == set(config["isas_built"])
    assert {k["isa"] for k in kernels if k["supported"]} == set(config["isas_supported"])
    floats = [*product(["float32", "float64"], ["chain", "lanes"])]
    for isa in config["isas_built"]:
        there = {(k["dtype"], k["order"]) for k in kernels if k["isa"] == isa}
        assert there == {*floats * (isa not in ADDS_QUADS_TO), ("int32", "chain")}
    operands = {"float32": "f32", "float64": "f64", "int32": "i16"}
    for k in kernels:
        operand = "i8" if k["isa"] in ADDS_QUADS_TO else operands[k["dtype"]]
        assert k["name"].startswith(f"{k['isa']}_{operand}_")
        if k["method"] == "multiply":
            assert k["name"].removesuffix("_lanes").endswith(f"_{k['rows']}x{k['lanes']}")


def test_the_configuration() -> None:
    config = _conv1x1.config()
    names = "compiler cpu isas_built isas_supported isa fused threads nervous tunes tried"
    assert set(config) == {*names.split()}
    assert "portable" in config["isas_supported"]
    assert set(config["isas_supported"]) <= set(config["isas_built"])
    assert config["isa"] in config["isas_supported"]


# ------------------------------------------------------------------------------------------ what is asked for


@pytest.mark.parametrize("channel_axis", [-1, 0])
@pytest.mark.parametrize("filters", [1, 40])
def test_any_way_of_moving_and_cutting_can_be_asked_for(channel_axis: int, filters: int, isa: str) -> None:
    """And gives the same bits."""
    random = np.random.default_rng(20240229)
    x = random.normal(size=(6, 7, 50) if channel_axis == -1 else (50, 6, 7)).astype(np.float32)
    one = Conv1x1(random.normal(size=(filters, 50)).astype(np.float32), channel_axis=channel_axis)
    with restricted(isa=isa):
        expected = one(x)
    for stages_x, scratches_y in product([True, False], repeat=2):
        for orientation, tile, chunk in product(
            [None, "pixels_as_rows", "pixels_as_lanes"], [1, 5, 41, 10**12], [1, 17]
        ):
            with restricted(
                isa=isa,
                orientation=orientation,
                stages_x=stages_x,
                scratches_y=scratches_y,
                tile_pixels=tile,
                chunk_filters=chunk,
            ):
                plan = one.plan(x, threads=2)
                np.testing.assert_array_equal(one(x, threads=2), expected, strict=True)
            # Where pixels are lanes in one array and rows in the kernel, or the other way round, they are moved.
            assert stages_x <= plan["stages_x"]
            assert scratches_y <= plan["scratches_y"]
            if orientation is None:
                assert (plan["stages_x"], plan["scratches_y"]) == (stages_x, scratches_y)
            assert plan["tile_pixels"] == min(tile, 42)
            assert plan["tiles"] == -(-42 // plan["tile_pixels"])
            if filters > 4:
                assert chunk <= plan["chunk_filters"] < chunk + 16


@pytest.mark.calm
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channel_axis", [-1, 0])
def test_a_special_kernel_can_be_asked_for(channel_axis: int, dtype: str) -> None:
    """Where the order of summation is its own; each in either layout."""
    x = np.ones((8, 9, 40) if channel_axis == -1 else (40, 8, 9), dtype)
    one = Conv1x1(np.ones((2, 40)), channel_axis=channel_axis)
    for kernel in [k for k in _conv1x1.kernels() if k["supported"] and k["order"] == "lanes"]:
        with restricted(kernel=kernel["name"]):
            if kernel["dtype"] == dtype:
                assert one.plan(x)["kernel"] == kernel["name"]
            assert (one(x) == 40).all()
