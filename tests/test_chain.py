"""Calls of chains of layers that are canonical run as one program of the core, with the bits of one after another."""

from __future__ import annotations

import itertools
import signal
import threading
from typing import Any

import numpy as np
import pytest

from conv1x1 import ArgMax, Conv1x1, LayerNorm, QConv1x1, Sequential, Softmax, _conv1x1, runtime

TYPES = ["float32", "float64", "float16", "uint8", "int8", "uint16", "int16", "bool", "int32", "int64", ">f4", ">u2"]


def numbers(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    drawn = np.random.default_rng([seed, *shape]).normal(size=shape)
    return (drawn * 40).astype(np.int64).astype(dtype) if np.dtype(dtype).kind in "iub" else drawn.astype(dtype)


def layers(*widths: int, dtype: Any = np.float32, axis: int = -1, **more: Any) -> list[Conv1x1]:
    found = []
    for i, (c, k) in enumerate(itertools.pairwise(widths)):
        w = numbers((k, c), dtype, seed=i)
        found.append(Conv1x1(w, numbers((k,), dtype, seed=i), channel_axis=axis, **more))
    return found


def one_by_one(elements: list[Conv1x1], x: Any, axis: int, result: Any = None, skip: bool = False) -> Any:
    wide = x.dtype == np.float64 or (x.dtype.kind in "iu" and x.dtype.itemsize >= 4)
    sums = np.dtype(np.float64 if wide else np.float32)
    given = x
    for i, layer in enumerate(elements):
        last = i == len(elements) - 1
        shape = list(given.shape)
        shape[axis] = layer.out_channels
        own = x.dtype.newbyteorder("=") if x.dtype.kind == "f" else sums
        to = np.empty(shape, (result or own) if last else sums)
        given = layer(given, out=to, residual=x if skip and last else None)
    return given


def in_the_core(net: Sequential, x: Any, **options: Any) -> Any:
    y = net._run(x, options.get("out"), options.get("threads"))
    assert y is not NotImplemented
    return y


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_of_pixels(dtype: str, axis: int) -> None:
    shape = [21, 34, 23]
    shape[axis] = 13
    x = numbers(tuple(shape), dtype)
    for weights in (np.float32, np.int8):
        elements = layers(13, 32, 5, 16, dtype=weights, axis=axis, activation="relu")
        net = Sequential(elements)
        y = in_the_core(net, x)
        wanted = one_by_one(elements, x, axis)
        assert y.dtype == wanted.dtype
        assert y.tobytes() == wanted.tobytes()
        out = np.full(y.shape, 77, np.int16)[..., ::-1]
        assert in_the_core(net, x, out=out) is out
        assert (out == one_by_one(elements, x, axis, np.int16)).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "uint16", "float64"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_skip(dtype: str, axis: int) -> None:
    elements = layers(24, 70, 24, axis=axis, activation="silu")
    net = Sequential(elements, skip=True)
    for shape in [(24, 40, 24), (24, 1, 24), (24, 200, 24)]:
        x = numbers(shape, dtype)
        for seen in (x, x[:, ::-1], x.transpose(2, 1, 0)):
            y = in_the_core(net, seen)
            assert y.tobytes() == one_by_one(elements, seen, axis, skip=True).tobytes()


def test_quantised_layers() -> None:
    kinds = [np.uint8, np.int8, np.int8, np.uint8]
    elements = []
    for i, (c, k) in enumerate([(13, 20), (20, 7), (7, 16)]):
        elements.append(
            QConv1x1(
                numbers((k, c), np.int8, seed=i),
                numbers((k,), np.int32, seed=i),
                x_scale=0.5,
                x_zero_point=kinds[i](3),
                w_scale=0.25,
                w_zero_point=0,
                y_scale=2.0,
                y_zero_point=kinds[i + 1](5),
            )
        )
    x = numbers((30, 40, 13), np.uint8)
    y = in_the_core(Sequential(elements), x)
    wanted = x
    for layer in elements:
        wanted = layer(wanted)
    assert y.dtype == np.uint8
    assert len(np.unique(y)) > 10
    assert y.tobytes() == wanted.tobytes()


def test_no_bit_depends_on_kernels_threads_and_tiles() -> None:
    elements = layers(13, 40, 3, 70, 8, activation="gelu")
    x = numbers((37, 29, 13), np.uint16)
    net = Sequential(elements)
    wanted = one_by_one(elements, x, -1).tobytes()
    for isa in _conv1x1.config()["isas_supported"]:
        for orientation in (None, "pixels_as_rows", "pixels_as_lanes"):
            for tile in (None, 1, 7, 100):
                with runtime.restricted(isa, orientation=orientation, tile_pixels=tile):
                    for threads in (1, 3):
                        assert in_the_core(net, x, threads=threads).tobytes() == wanted


def test_out_over_x() -> None:
    elements = layers(16, 40, 16)
    net = Sequential(elements, skip=True)
    whole = numbers((50, 60, 20))
    for start in (0, 1, 4):
        memory = whole.copy()
        x, out = memory[..., :16], memory[..., start : start + 16]
        wanted = one_by_one(elements, x, -1, skip=True)
        assert in_the_core(net, x, out=out) is out
        assert (out == wanted).all()
    memory = whole.copy()
    in_the_core(net, whole[..., :16], out=memory[..., 4:])
    assert (memory[..., :4] == whole[..., :4]).all()


def test_its_plan_is_one_for_all_elements() -> None:
    plan = Sequential(layers(224, 64, 32, 10)).plan(np.empty((256, 256, 224), np.uint16), threads=1)
    assert [e["arithmetic"] for e in plan["elements"]] == ["float32"] * 3
    assert {e["tile_pixels"] for e in plan["elements"]} == {plan["tile_pixels"]}
    assert ["handed_on_as" in e for e in plan["elements"]] == [True, True, False]
    assert plan["scratch_bytes"] < 2**21
    assert plan["tiles"] * plan["tile_pixels"] >= 256 * 256


def test_a_chain_keeps_its_layers_and_many_may_call_it() -> None:
    elements = layers(13, 64, 8)
    x = numbers((200, 300, 13))
    wanted = one_by_one(elements, x, -1).tobytes()
    net = Sequential(elements)
    del elements
    results: list[Any] = []
    callers = [threading.Thread(target=lambda: results.append(net(x).tobytes())) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [wanted] * 6


def test_a_signal_ends_a_call() -> None:
    net = Sequential(layers(64, 512, 512, 64))
    x = np.broadcast_to(np.zeros((1, 64), np.float32), (1_000_000, 64))  # some seconds of work

    def alarm(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeoutError):
            net(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_what_is_not_for_the_core_is_said_so_and_computed_all_the_same() -> None:
    elements = layers(6, 7, 5)
    net = Sequential(elements)
    x = numbers((9, 6))
    for odd in (x.astype(np.complex64), x[..., :5], x.tolist(), x.view(type("Subclass", (np.ndarray,), {}))):
        assert net._run(odd, None, None) is NotImplemented
    assert net._run(x, None, 0) is NotImplemented
    assert net._run(x, np.empty((9, 5), np.uint32), None) is NotImplemented
    assert net(x.astype(np.complex64)).dtype == np.complex64
    assert (net(x.tolist()) == net(x.astype(np.float64))).all()


def test_only_layers_that_fit_make_one() -> None:
    one, two = layers(6, 7, 5)
    for wrong in [(two, one), (one, object()), (one, np.ones((5, 7)))]:
        with pytest.raises((TypeError, ValueError)):
            _conv1x1.Chain(wrong, -1, False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not fit"):
        _conv1x1.Chain((one, two), -1, True)


def between(kind: str, channels: int) -> Any:
    if kind == "softmax":
        return Softmax()
    if kind == "layer norm":
        return LayerNorm(channels, numbers((channels,), seed=1), numbers((channels,), seed=2), eps=1e-6)
    if kind == "largest":
        return ArgMax()
    return ArgMax((np.arange(channels)[::-1] // 2 % 3).astype(kind))


def stepped(step: Any, x: Any, axis: int, sums: Any) -> Any:
    """What a step makes of an array, by the kernels alone."""
    if isinstance(step, ArgMax):
        index = x.argmax(axis)
        return index.astype(np.uint8) if step.labels is None else step.labels[index]
    pixels = np.array(np.moveaxis(x, axis, -1), sums, order="C").reshape(-1, x.shape[axis], 1)
    more = (None, None, 0.0)
    if isinstance(step, LayerNorm):
        assert step.weight is not None
        assert step.bias is not None
        more = (step.weight.astype(sums), step.bias.astype(sums), step.eps)
    _conv1x1.over_channels("layer_norm" if isinstance(step, LayerNorm) else "softmax", pixels, pixels, *more)
    moved = np.moveaxis(x, axis, -1).shape
    return np.moveaxis(pixels.reshape(moved), -1, axis)


@pytest.mark.parametrize("kind", ["softmax", "layer norm", "largest", "bool", "uint16", "int32", "int64"])
@pytest.mark.parametrize("dtype", ["float32", "uint16", "float64", "float16"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_steps_between_and_behind_layers(kind: str, dtype: str, axis: int) -> None:
    shape = [19, 30, 19]
    x = numbers(tuple(shape), dtype)
    sums = np.dtype(np.float64 if dtype == "float64" else np.float32)
    own = x.dtype if x.dtype.kind == "f" else sums
    one, two = layers(19, 40, 9, axis=axis)
    ends = kind not in ("softmax", "layer norm")
    for where in [2] if ends else [0, 1, 2]:
        elements: list[Any] = [one, two]
        elements.insert(where, between(kind, [19, 40, 9][where]))
        net = Sequential(elements, channel_axis=axis)
        for seen in (x, x[:, ::-1], x.transpose(2, 1, 0)):
            wanted = seen
            for i, e in enumerate(elements):
                to = (own if i == len(elements) - 1 else sums) if not isinstance(e, ArgMax) else None
                if isinstance(e, Conv1x1):
                    shape = list(wanted.shape)
                    shape[axis] = e.out_channels
                    wanted = e(wanted, out=np.empty(shape, to))
                else:
                    wanted = stepped(e, wanted, axis, sums)
                    wanted = wanted if to is None else wanted.astype(to)
            for threads in (1, 3):
                for tile in (None, 5):
                    for orientation in (None, "pixels_as_rows", "pixels_as_lanes"):
                        with runtime.restricted(tile_pixels=tile, orientation=orientation):
                            y = in_the_core(net, seen, threads=threads)
                        assert y.dtype == wanted.dtype
                        assert y.tobytes() == wanted.tobytes()
            out = np.empty((*wanted.shape, 2), wanted.dtype)[..., 1]
            assert in_the_core(net, seen, out=out) is out
            assert (out == wanted).all()


def test_a_norm_before_and_x_behind() -> None:
    one, two = layers(24, 70, 24, activation="gelu")
    net = Sequential([between("layer norm", 24), one, two], skip=True)
    x = numbers((20, 30, 24))
    wanted = two(one(np.ascontiguousarray(stepped(net[0], x, -1, np.dtype(np.float32)))), residual=x)
    assert in_the_core(net, x).tobytes() == wanted.tobytes()


def test_steps_whose_numbers_do_not_fit() -> None:
    one, two = layers(6, 7, 5)
    good = b"1234" * 7
    for step in [("layer_norm", 7, 0.1, good[1:], None, None, None), ("layer_norm", 6, 0.1, None, None, None, None)]:
        with pytest.raises(ValueError, match=r"norm has|do not fit"):
            _conv1x1.Chain((one, step, two), -1, False)
    with pytest.raises(ValueError, match="label"):
        _conv1x1.Chain((one, two, ("arg_max", np.dtype(np.int16), b"123456789")), -1, False)
    with pytest.raises(ValueError, match="do not fit"):
        _conv1x1.Chain((one, ("arg_max", np.dtype(np.int16), None), two), -1, False)


def test_a_chain_takes_other_types_in_turn() -> None:
    # What it remembers of a call is for calls of the same types alone.
    rng = np.random.default_rng(5)
    weights = [rng.standard_normal((3, 3)).astype(np.float32) for _ in range(2)]

    def chain() -> Sequential:
        return Sequential([Conv1x1(w) for w in weights])

    net = chain()
    x = rng.standard_normal((2, 5, 3))
    for dtype in (np.float32, np.float64, np.float32, np.int16, np.float16):
        for result in (None, np.float64, np.float32):
            pixels = (8 * x).astype(dtype)
            outs = [None if result is None else np.empty(x.shape, result) for _ in range(2)]
            found, expected = net(pixels, out=outs[0]), chain()(pixels, out=outs[1])
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
