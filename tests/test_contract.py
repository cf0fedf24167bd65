"""What is settled for good about functions and layers: how they are called, what they hand out, what a pickle is."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import typing
import warnings
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1 import Conv1x1, QConv1x1

W = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
X = np.arange(20, 32, dtype=np.uint8).reshape(2, 2, 3)
SCALES: dict[str, Any] = {
    "x_scale": 0.5,
    "x_zero_point": np.uint8(25),
    "w_scale": [0.25, 0.5, 0.75, 1],
    "w_zero_point": [0, 1, 2, 3],
    "y_scale": 0.3,
    "y_zero_point": np.int8(-3),
}
OPTIONS: dict[str, Any] = {"channel_axis": -1, "stride": (1, 2), "activation": ("clip", -1e6, 1e6)}
MAKERS: dict[str, Any] = {
    "of floats": lambda cls=Conv1x1, **more: cls(W.astype(np.float32), np.arange(4.0), **OPTIONS | more),
    "centred": lambda cls=Conv1x1, **more: cls(W * 0.5, center=[20.25, 3, 1], **OPTIONS | more),
    "a vector": lambda cls=Conv1x1, **more: cls(W[0].astype(np.float32), [1.0], **OPTIONS | more),
    "complex": lambda cls=Conv1x1, **more: cls(W * 1j, np.arange(4) + 1j, **more),
    "quantised": lambda cls=QConv1x1, **more: cls(W, np.arange(4), **SCALES, **OPTIONS | more),
}


@pytest.fixture(params=MAKERS)
def layer(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param]()


# ------------------------------------------------------------------------------------------- how they are called


def test_x_alone_goes_by_position(layer: Any) -> None:
    y = layer(X)
    quantised = isinstance(layer, QConv1x1)
    form = r"qlayer\(x, \*, out=None, threads=None\)" if quantised else r"layer\(x, \*, residual=None, out=None, thr"
    for args in ((X, y), (X, None), (X, None, None), (X, y, y, 1)):
        with pytest.raises(TypeError, match=rf"x alone by position, got {len(args)} arguments.*\(x, out=a\).*{form}"):
            layer(*args)
    for kwargs in ({"outt": y}, {"residual": y} if quantised else {"bias": y}):
        with pytest.raises(TypeError, match=rf"no argument '{next(iter(kwargs))}': {form}"):
            layer(X, **kwargs)
    out = np.zeros_like(y)
    assert layer(x=X, out=out, threads=1) is out
    assert np.array_equal(out, y)


def test_the_order_of_the_quantised_layer_is_that_of_the_layer() -> None:
    onnx = (0.5, np.uint8(25), W, 0.25, 0, 0.3, np.int8(-3), np.arange(4))
    for args in (onnx, onnx[:7], onnx[:3]):
        with pytest.raises(TypeError, match=rf"w and bias by position .* {len(args)} .*qlinear_conv1x1"):
            QConv1x1(*args)  # type: ignore[call-arg,arg-type,misc]
    with pytest.raises(TypeError, match="'x_scale', 'x_zero_point', 'w_scale'"):
        QConv1x1(W, np.arange(4))  # type: ignore[call-arg]
    for bias, says in ((np.ones(4), "bias holds float64.*np.rint\\(bias /"), (np.arange(3), r"bias has shape \(3,\)")):
        with pytest.raises((TypeError, ValueError), match=says):
            QConv1x1(W, bias, **SCALES)
        with pytest.raises((TypeError, ValueError), match=says.replace("bias", "B")):
            c11.qlinear_conv1x1(X, w=W, B=bias, **SCALES)
    for a, b in zip(
        inspect.signature(Conv1x1).parameters.values(), inspect.signature(QConv1x1).parameters.values(), strict=False
    ):
        if a.name in ("w", "bias"):
            assert (a.name, a.kind, a.default) == (b.name, b.kind, b.default)


def test_signatures(layer: Any) -> None:
    residual = "" if isinstance(layer, QConv1x1) else "residual=None, "
    assert str(inspect.signature(layer)) == f"(x, *, {residual}out=None, threads=None)"
    assert str(inspect.signature(type(layer).__call__)) == f"(self, /, x, *, {residual}out=None, threads=None)"
    names = list(inspect.signature(type(layer)).parameters)
    assert names[:2] == ["w", "bias"]
    assert "args" not in names

    class Other(type(layer)):  # type: ignore[misc]
        def __call__(self, image: Any, *, gain: float = 1) -> Any:
            return gain * super().__call__(image)

    assert list(inspect.signature(MAKERS["quantised" if residual == "" else "of floats"](Other)).parameters) == [
        "image",
        "gain",
    ]


@pytest.mark.parametrize("name", c11.__all__)
def test_type_hints(name: str) -> None:
    public = getattr(c11, name)
    typing.get_type_hints(public)
    for member in vars(public).values() if isinstance(public, type) else ():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if inspect.isfunction(function) and function.__annotations__:  # what dataclasses add has none
            assert "return" in typing.get_type_hints(function)
    if not isinstance(public, type):
        assert {*inspect.signature(public).parameters} <= {*typing.get_type_hints(public)}


# ------------------------------------------------------------------------------------------- what they hand out


def arrays_of(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from arrays_of(v)
    elif isinstance(value, dict):
        yield from arrays_of(list(value.values()))


def tamper(a: Any) -> None:
    """All that can be done to an array, and to what it shows the memory of."""
    changes: list[Any] = [
        lambda b: b.setflags(write=True),
        lambda b: b.__setitem__(..., 1),
        lambda b: np.add(b, 1, out=b),
        lambda b: b.fill(3),
        lambda b: b.sort(),
        lambda b: b.byteswap(inplace=True),
        lambda b: b.resize((1,), refcheck=False),
        lambda b: memoryview(b).cast("B").__setitem__(0, 7),
        lambda b: setattr(b, "strides", (0,) * b.ndim),
        lambda b: setattr(b, "shape", (b.size, 1)),
        lambda b: setattr(b, "dtype", np.uint8),
        lambda b: setattr(b, "dtype", np.dtype([("a", np.uint8)])),
    ]
    while a is not None:
        for change in changes:
            with suppress(ValueError, TypeError, AttributeError, BufferError), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                change(a)
        a = getattr(a, "base", None)


def everything(layer: Any) -> list[Any]:
    public = [n for n in dir(layer) if not n.startswith("__") and not callable(getattr(layer, n))]
    return [repr(getattr(layer, n)) for n in public]


def test_nothing_that_a_layer_hands_out_is_its_own(layer: Any) -> None:
    before, told, pickled = layer(X), everything(layer), pickle.dumps(layer)
    found = 0
    for name in dir(layer):
        if name.startswith("__"):
            continue
        for a in arrays_of(getattr(layer, name)):
            tamper(a)
            found += 1
        with pytest.raises(AttributeError):
            setattr(layer, name, None)
        with pytest.raises(AttributeError):
            delattr(layer, name)
    for a in arrays_of(list(vars(type(layer)).values())):
        tamper(a)
    assert found >= 4
    assert (everything(layer), pickle.dumps(layer)) == (told, pickled)
    for made in (layer, pickle.loads(pickle.dumps(layer))):
        assert made(X).tobytes() == before.tobytes()
        assert made(X.tolist() if layer.weight.dtype.kind != "i" else np.ma.array(X)).shape == before.shape


def test_weak_references(layer: Any) -> None:
    class Other(type(layer)):  # type: ignore[misc]
        pass

    for cls in (type(layer), Other):
        made = MAKERS["quantised" if isinstance(layer, QConv1x1) else "of floats"](cls)
        gone: list[Any] = []
        reference, known = weakref.ref(made, gone.append), weakref.WeakKeyDictionary({made: 1})
        assert reference() is made
        assert known[made] == 1
        del made
        assert reference() is None
        assert gone == [reference]
        assert not known


def test_layers_are_equal_to_themselves_alone(layer: Any) -> None:
    other = pickle.loads(pickle.dumps(layer))
    assert layer == layer
    assert layer != other
    assert len({layer, other, layer}) == 2


def test_repr_shows_the_dtype() -> None:
    made = Conv1x1(W, dtype=np.float64)
    assert repr(made) == "<Conv1x1 3 → 4, channel_axis=-1, dtype='float64'>"
    assert repr(pickle.loads(pickle.dumps(made))) == repr(made)


# -------------------------------------------------------------------------------------------------- pickles

TRIPS: dict[str, Any] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda v, p=p: pickle.loads(pickle.dumps(v, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)},
}


class Mixed:
    """A __new__ and an __init__ of other arguments, slots, and attributes besides."""

    __slots__ = ()

    def __new__(cls, name: str) -> Any:
        made = MAKERS["quantised" if issubclass(cls, QConv1x1) else "of floats"](
            lambda *a, **k: super(Mixed, cls).__new__(cls, *a, **k)
        )
        made.name = name
        return made

    def __init__(self, name: str) -> None:
        self.gain = len(name)  # type: ignore[attr-defined]


class NamedFloats(Mixed, Conv1x1):
    __slots__ = ("__dict__", "empty", "gain")


class NamedQuantised(Mixed, QConv1x1):
    __slots__ = ("gain", "name")


class WithState(Conv1x1):
    def __getstate__(self) -> Any:
        return {"kept": 1}

    def __setstate__(self, state: Any) -> None:
        self.found = state


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("cls", [NamedFloats, NamedQuantised])
def test_a_subclass_with_its_own_new_travels(cls: Any, trip: str) -> None:
    made = cls("grey")
    again = TRIPS[trip](made)
    assert (type(again), again.name, again.gain) == (cls, "grey", 4)
    assert not hasattr(again, "empty")
    assert again(X).tobytes() == made(X).tobytes()


@pytest.mark.parametrize("trip", TRIPS)
def test_a_subclass_with_its_own_state_travels(trip: str) -> None:
    assert TRIPS[trip](WithState(W)).found == {"kept": 1}


def told_otherwise(base: Any) -> Any:
    """A subclass whose properties tell something else of every number."""

    def other(name: str) -> property:
        return property(lambda self: 2 * getattr(super(type(self), self), name))

    names = ["weight", "bias", "stride", *(["w_scale", "x_scale", "y_scale"] if base is QConv1x1 else [])]
    more = {} if base is QConv1x1 else {"dtype": property(lambda self: np.dtype(np.int16))}
    return type(f"Other{base.__name__}", (base,), {n: other(n) for n in names} | more | {"__module__": __name__})


OtherConv1x1, OtherQConv1x1 = told_otherwise(Conv1x1), told_otherwise(QConv1x1)


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("kind", MAKERS)
def test_what_properties_of_a_subclass_tell_does_not_change_it(kind: str, trip: str) -> None:
    made = MAKERS[kind](OtherQConv1x1 if kind == "quantised" else OtherConv1x1)
    again = TRIPS[trip](made)
    assert (type(again), again(X).dtype) == (type(made), made(X).dtype)
    assert again(X).tobytes() == made(X).tobytes()


@pytest.mark.parametrize("name", c11.__all__)
def test_what_is_public_is_named_so(name: str) -> None:
    """By help, by `repr` of a type, and by pickles: where it is written may change."""
    public = getattr(c11, name)
    assert (public.__module__, public.__qualname__) == ("conv1x1", name)
    assert pickle.loads(pickle.dumps(public)) is public


def test_a_pickle_from_before_the_layers_had_a_file_of_their_own() -> None:
    layer = pickle.loads(
        b"\x80\x02cconv1x1.conv\n_rebuilt\nq\x00(K\x01cconv1x1.conv\nConv1x1\nq\x01}q\x02(X\x01\x00\x00\x00wq\x03c_codecs\n"
        b"encode\nq\x04X\x12\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc3\xb0?\x00\x00\x00\x00\x00\x00\xc3\xb0?q\x05X\x06\x00"
        b"\x00\x00latin1q\x06\x86q\x07Rq\x08K\x01K\x02\x86q\tX\x03\x00\x00\x00<f8q\n\x87q\x0bX\x04\x00\x00\x00biasq\x0c"
        b"Nu}q\r(X\x0c\x00\x00\x00channel_axisq\x0eJ\xff\xff\xff\xffX\x06\x00\x00\x00strideq\x0fK\x01X\x06\x00\x00\x00"
        b"groupsq\x10K\x01X\n\x00\x00\x00activationq\x11NX\x05\x00\x00\x00dtypeq\x12Nutq\x13Rq\x14."
    )
    assert isinstance(layer, Conv1x1)
    assert layer([[1.0, 2.0]]).tolist() == [[3.0]]


def test_the_form_of_a_pickle_has_a_number(layer: Any) -> None:
    rebuilt, (form, cls, *rest) = layer.__reduce__()[:2]
    assert (form, cls) == (1, type(layer))
    assert rebuilt(form, cls, *rest)(X).tobytes() == layer(X).tobytes()
    for other in (0, 2, 1.5, "1", None, cls, 2**70):
        with pytest.raises(ValueError, match=r"the pickle of a layer has form .*, and this conv1x1 knows 1.*newer"):
            rebuilt(other, cls, *rest)
    for wrong in (int, "Conv1x1", None, Conv1x1 if cls is QConv1x1 else QConv1x1):
        with pytest.raises(TypeError, match=f"expected {cls.__name__} or a subclass"):
            rebuilt(form, wrong, *rest)


ROOT = Path(__file__).parents[1]


DOCUMENTS = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "cpp/README.md"]
DOCUMENTS += [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_point_at_files_that_are_there(document: str) -> None:
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert not [t for t in targets if "://" not in t and not (path.parent / t).exists()]
