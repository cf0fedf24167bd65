"""The bits of a result, as hashes: they stay what they are, whatever way a result is come by, on every machine.

The sums are written out below, in plain arithmetic: `definition` gives the hashes of all that has no curve in it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest

from conv1x1 import (
    ArgMax,
    Conv1x1,
    LayerNorm,
    Pool,
    QConv1x1,
    Sequential,
    Softmax,
    _conv1x1,
    conv1x1,
    conv1x1_integer,
    qlinear_conv1x1,
)

CONFIG = _conv1x1.config()
pytestmark = pytest.mark.skipif(not CONFIG["fused"], reason="without fused multiply-add the last bits may differ")

SHAPES = [  # pixels, channels, filters, groups
    (37, 192, 1, 1),
    (37, 100, 4, 1),
    (130, 3, 4, 1),
    (50, 31, 3, 1),
    (61, 192, 40, 1),
    (29, 520, 33, 1),
    (40, 60, 24, 3),
]

#: Pixels, result and activation → SHA-256. Integers out of pixels of integers come of weights of int8; "quantised"
#: results of zero points and a scale for each filter; "centred" ones of a number taken off each channel first.
GOLDEN = {
    ("float32", "float32", None): "2c2769151ef3c8ce40da6fdb5b00c14c1d9ca7a7b8aaa42d967fae2f2e787237",
    ("float32", "float32", "relu6"): "b93bd44875eaa2d110193be973e363d6cf2aa3c342c0a5c99d27ba7531f2e05e",
    ("float32", "float32", "hardswish"): "dd111465260fa8011a4de9942699366b3fee903b92c3bae7fc8d7c13c3e3f721",
    ("float32", "float32", "sigmoid"): "91841b3692f3b7141aafc7a4108477cc963fa5c989a5655f868cadc3157c051f",
    ("float32", "float32", "silu"): "8092e4d272dc3b985c4f64823df07403dac30bb500c9abd36573ed14bdfbccec",
    ("float32", "float32", "tanh"): "9622dc3ace0ec4c35709ddac8c101afce830b37f2981f90b66c18b8537ff4fff",
    ("float32", "float32", "gelu"): "ff4d1328a9555469781691fcb6ee95ed3d644577ee31e34179f39b605e43b097",
    ("float64", "float64", None): "ab68dde4544d319d2933ac65f122faaaf442173c84b66519be748af3d9a7e621",
    ("float64", "float64", "relu6"): "56548b187e4ed41a785c551c2b2b2af95ca3169d69ea607bd0f6e8e80830b82e",
    ("float64", "float64", "hardswish"): "2d9c0c5085ee845ab1e37c9254c7a97953f7bad464d0e3a5734525f803c07c64",
    ("float64", "float64", "sigmoid"): "0a9ef8f2c005526e527bc5aeb81078f91f63eea227f9d144a4f8c73e9897a113",
    ("float64", "float64", "silu"): "f0dcdcdfecce0799537b7d09f5cd76bd158404bd55b6c09ff302480a4b467f24",
    ("float64", "float64", "tanh"): "d92610261866b1862e85dfb6b0655783996693bb078a91b1c35f55f12544625b",
    ("float64", "float64", "gelu"): "594500097578be77481bc247819c29fb4c91a14ad9f5d482308d08c4107a11e4",
    ("float16", "float16", None): "02f81e49990a309b52dbd01d4ceaf206ed21d5c2f89ec65b6eb651c94dfbe8bf",
    ("float16", "float16", "relu"): "feb19bbc6bae390f0da845dbd53d60d449ff573b35fd608508309d048b47be15",
    ("float16", "float16", "hardswish"): "0e0d7c59fab1b894cb8c36e52ae549156460953b735815e772b7087cb533f9b9",
    ("float16", "float16", "sigmoid"): "fb68af7e93718eedebf05cf885bbb13a9f26f51ccb356531f2c779b83e44320c",
    ("float16", "float16", "silu"): "0c95a79ab01d2f9f9f2619110f8ad9028c208fe8ebb144f8bcd6405ef3678cec",
    ("float16", "float16", "tanh"): "e98182d28baabfbea0f514d0d5f65adef3c5313de94a9ae0e6003b176b42e80d",
    ("float16", "float16", "gelu"): "de6af4f1faef388091b02820425ac284c66bc961e74c31dca1874a7c27463efe",
    ("bfloat16", "bfloat16", None): "538f38e12c86ae41103cd9dee5024734993091960f15d828158c9ec416cb2e2d",
    ("bfloat16", "bfloat16", "relu"): "1ecbc21422161c768e884745492818059f2c365c3c8a4142d06364a64fa82441",
    ("bfloat16", "bfloat16", "hardswish"): "ac11680c733a9703842085ead121bfd629796debc4cf4360619367d1a96a4072",
    ("bfloat16", "bfloat16", "sigmoid"): "1e055f1645eed93c38ce3fc296e4730fa3b83a15d1839b297f59c7ee01deb36b",
    ("bfloat16", "bfloat16", "silu"): "c163f1e10759e3ced0a5f931590654bf101a475edd2ab341f921ef6e324327a1",
    ("bfloat16", "bfloat16", "tanh"): "95c0861fa0c81ae5e202cc88df5247d9906fc11215556c3d08b7f4c00e5a262d",
    ("bfloat16", "bfloat16", "gelu"): "26918e703ad7189cf6fdd10b0add48db323b23351116c90b2309a66eefcf793d",
    ("uint8", "float32", "relu"): "d23a1b96b02e43329a537ab5b80085af938a2f26dd456daa15449e1aa5f9a68a",
    ("int8", "int32", "relu"): "a454a73edb381b301c84114702070990de9065d09117fc0766135d6505e33953",
    ("uint8", "int32", "relu"): "036c25be5e651c9c4d3ce0779147685af31fa5d8c8bde30d4fb5b9477b1ba5c0",
    ("int64", "float64", "relu6"): "bbe28d1d464cc63f244db6e230c2e48048353fba7e26fb7aebe5588fef815f54",
    ("uint64", "float64", None): "4665bd33b31592c82f516329f21841481e6bbb73b8bf1c4840faf0d95d0e4e99",
    ("int64", "int64", "relu"): "447f8fa6202a504007f5932035d8e8375f89cd6a542767b495358501760fcfa5",
    ("uint64", "int64", None): "6a84d3c2e9a4af33a1c5e02999b3c41b3e77ce2439f1ec520ce4782d42b0080d",
    ("float32", "float32", "centred"): "03531fa1e2768ad99b590c86bf2acf74c161468ac219521bee90fc44b2c146db",
    ("float64", "float64", "centred"): "9037f79c5ce21de9ba459aba7d4d687172e447e3dd101571646792c8d44d9804",
    ("float16", "float16", "centred"): "f4d90e785c4d8086904f56ee15850f4670bda1090630551bb84328ebfb304161",
    ("uint8", "float32", "centred"): "7c2f2ea566bfd0f66ff606f0604ba8d5b57ce41031753459d63c12c91b8e63e4",
    ("uint16", "float32", "centred"): "4f76acb3b94762dad26f960ad6443e27fcd2fdd97a7b4433476c04df00e8cafe",
    ("int8", "int32", "centred"): "8ed847a9f83742bc331214e614d2a094f9953758f99ea4ddbb3105d4bc1b0ced",
    ("int64", "int64", "centred"): "1744281e7443d42248a2f2dbf63358755c0ab8ae75cff531d7302621a43661d6",
    ("uint8", "int32", "quantised"): "bfef36982eb2d5544918a8e8722719073258b705fbfeb764ab90f7e04c894755",
    ("uint8", "uint8", "quantised"): "4ec87c0afb9223d4f38d632eb45b8e5153c144fb90d41cf5d73e286288f84a7d",
    ("uint8", "int8", "quantised"): "fe7b2b2bf7f938d8415166dbda88340671ab3207a20ceb1fcbe1c20eab596517",
    ("int8", "uint8", "quantised"): "db7d4dc95dae3eb8733255928d970327ab968ff2106f412b03444ee3003bea28",
    ("int8", "int8", "quantised"): "65ba1c86436d064aace824dc9be82f911ae8ed17c70774392a8145f52499efa6",
}
Case = tuple[str, str, "str | None"]
WIDE = ("int64", "uint64")


#: The portable kernels, which take long, do one batch, and VNNI's, which are of integers, do those: the work is split
#: up for them as for the others.
BATCHES = [
    (isa, case)
    for isa, case in product(CONFIG["isas_supported"], GOLDEN)
    if {"portable": case == ("float32", "float32", None), "avx512vnni": "int" in case[0]}.get(isa, True)
]


def numbers(*shape: int, seed: int, dtype: Any) -> Any:
    """Fractions in [-1, 1) from a multiplicative generator on integers: no library's random numbers, no libm."""
    index = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(1000003 * seed)
    mixed = (index * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)) >> np.uint64(33)
    return (mixed.astype(np.float64) / 2**30 - 1).reshape(shape).astype(dtype)


def whole(*shape: int, seed: int, most: int, dtype: Any) -> Any:
    """The same as whole numbers in [-most, most)."""
    return np.floor(most * numbers(*shape, seed=seed, dtype="float64")).astype(dtype)


def pixels_of(x_type: str, *shape: int, seed: int) -> Any:
    """Of bytes every one there is, of floats as many fractions, of wide integers what may be summed exactly."""
    if x_type in ("float32", "float64"):
        return numbers(*shape, seed=seed, dtype=x_type)
    if x_type in WIDE:
        return (whole(*shape, seed=seed, most=2**35, dtype=np.int64) + 2**35 * (x_type == "uint64")).astype(x_type)
    if x_type == "uint16":
        return (whole(*shape, seed=seed, most=2**15, dtype=np.int32) + 2**15).astype(x_type)
    steps = whole(*shape, seed=seed, most=128, dtype=np.int8)
    return steps.view(x_type) if x_type.endswith("int8") else (steps / np.float32(128)).astype(x_type)


class Convolution(NamedTuple):
    """One of the shapes of one of the cases: its pixels, the ways to send such through it, and what must come out."""

    x: Any  # (pixels, channels)
    residual: Any  # (pixels, filters), or None
    filters: int
    y_type: str
    layer: Callable[[int], Any]  # of a channel axis → f(x, *, residual, out, threads)
    once: Callable[..., Any]  # f(x, residual, channel_axis, out, threads)
    definition: Callable[[], Any]  # where no curve is in it


def convolution(case: Case, shape: tuple[int, int, int, int]) -> Convolution:
    x_type, y_type, activation = case
    pixels, channels, filters, groups = shape
    x = pixels_of(x_type, pixels, channels, seed=1)
    if activation == "quantised":
        return quantised(x, y_type, filters, groups)
    wide = x_type in ("float32", "float64")
    w_type = x_type if wide else "float64" if y_type == "float64" else "float32"
    w = numbers(filters, channels // groups, seed=2, dtype=w_type)
    bias = numbers(filters, seed=3, dtype=w_type)
    residual = numbers(pixels, filters, seed=4, dtype=w_type) if wide else None
    if y_type in ("int32", "int64"):
        w, bias = np.floor(128 * w).astype(np.int8), np.floor(2**20 * bias).astype(np.int32)
    options: dict[str, Any] = {"groups": groups, "activation": activation}
    center = None
    if activation == "centred":
        integers = x_type != y_type or x_type == "int64"
        center = (
            whole(channels, seed=9, most=2**7, dtype=np.int32) if integers else numbers(channels, seed=9, dtype=w_type)
        )
        options |= {"activation": None, "center": center}

    def once(x: Any, residual: Any, axis: int, out: Any = None, threads: Any = None) -> Any:
        if center is not None:  # a layer alone has one
            return Conv1x1(w, bias, channel_axis=axis, **options)(x, residual=residual, out=out, threads=threads)
        return conv1x1(x, w, bias, residual=residual, channel_axis=axis, out=out, threads=threads, **options)

    def definition() -> Any:
        off = 0 if center is None else center
        if y_type in ("int32", "int64"):
            y = summed(np.matmul, x.astype(np.int64) - off, w.T.astype(np.int64), groups) + bias
        else:
            order = lanes if channels // groups >= 32 and filters // groups <= 4 else chain
            y = summed(order, (x.astype(w_type) - off).astype(w_type), w.T, groups) + bias
        y = y if residual is None else y + residual
        lo, hi = {"centred": (-np.inf, np.inf), None: (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6)}[
            activation
        ]
        return np.clip(y, lo, hi).astype(y_type)

    return Convolution(
        x,
        residual,
        filters,
        y_type,
        lambda axis: Conv1x1(w, bias, channel_axis=axis, **options),
        once,
        definition,
    )


def quantised(x: Any, y_type: str, filters: int, groups: int) -> Convolution:
    """With zero points on all sides; the scales bring results to all the range."""
    per_group, zero, y_zero = x.shape[1] // groups, x.dtype.type(77), np.dtype(y_type).type(99)
    w = whole(filters, per_group, seed=2, most=128, dtype=np.int8)
    w_zero = whole(filters, seed=5, most=20, dtype=np.int8)
    bias = whole(filters, seed=3, most=5000, dtype=np.int32)
    scales = (numbers(filters, seed=6, dtype="float32") + 2) / np.float32(32 * per_group)
    of_sums, of_layer = (zero, w_zero), (0.37, zero, w, scales, w_zero, 0.9, y_zero, bias)

    def sums() -> Any:
        return summed(np.matmul, x.astype(np.int64) - zero, (w.astype(np.int64) - w_zero[:, None]).T, groups)

    if y_type == "int32":

        def sums_alone(x: Any, residual: Any, axis: int, out: Any = None, threads: Any = None) -> Any:
            return conv1x1_integer(x, w, *of_sums, groups=groups, channel_axis=axis, out=out, threads=threads)

        return Convolution(
            x,
            None,
            filters,
            y_type,
            lambda axis: lambda x, residual, out=None, threads=None: sums_alone(x, residual, axis, out, threads),
            sums_alone,
            lambda: sums().astype(np.int32),
        )

    def layer(axis: int) -> Any:
        of_x, of_w = {"x_scale": 0.37, "x_zero_point": zero}, {"w_scale": scales, "w_zero_point": w_zero}
        of_y = {"y_scale": 0.9, "y_zero_point": y_zero}
        made = QConv1x1(w, bias, **of_x, **of_w, **of_y, channel_axis=axis, groups=groups)
        return lambda x, residual, out=None, threads=None: made(x, out=out, threads=threads)

    def definition() -> Any:
        scaled = (sums() + bias).astype(np.float32) * (np.float32(0.37) * scales / np.float32(0.9))
        info = np.iinfo(y_type)
        return np.clip(np.rint(scaled) + int(y_zero), info.min, info.max).astype(y_type)

    def once(x: Any, residual: Any, axis: int, out: Any = None, threads: Any = None) -> Any:
        return qlinear_conv1x1(x, *of_layer, channel_axis=axis, groups=groups, out=out, threads=threads)

    return Convolution(x, None, filters, y_type, layer, once, definition)


def digest(results: Iterable[Any]) -> str:
    total = hashlib.sha256()
    for y in results:
        total.update(y.tobytes())
    return total.hexdigest()


# ------------------------------------------------------------------------------------------------- every way


def through(
    c: Convolution, x: Any, residual: Any, axis: int = -1, threads: int | None = None, once: bool = False
) -> Any:
    """By the layer or the function, into memory that holds no result of an earlier call."""
    shape = list(x.shape)
    shape[axis] = c.filters
    out = np.full(shape, 101 if np.dtype(c.y_type).kind in "iu" else np.nan).astype(c.y_type)
    if once:
        return c.once(x, residual, axis, out, threads)
    return c.layer(axis)(x, residual=residual, out=out, threads=threads)


def turned(a: Any) -> Any:
    return None if a is None else np.ascontiguousarray(a.T)


def one_by_one(c: Convolution) -> Any:
    layer = c.layer(-1)
    added = [None] * len(c.x) if c.residual is None else c.residual
    return np.array([layer(pixel, residual=residual) for pixel, residual in zip(c.x, added, strict=True)])


def in_a_middle_axis(c: Convolution) -> Any:
    return through(c, c.x.T[None], None if c.residual is None else c.residual.T[None], 1)[0].T


def in_pairs(c: Convolution) -> Any:
    """Two pixels side by side, then a gap: no even stride goes over all of them."""
    pixels, channels = c.x.shape
    gaps = np.zeros((-(-pixels // 2), 3, channels), c.x.dtype)
    gaps[:, :2] = paired(c.x)
    y = through(c, gaps[:, :2], None if c.residual is None else paired(c.residual))
    return y.reshape(-1, c.filters)[:pixels]


def paired(a: Any) -> Any:
    return np.resize(a, (-(-len(a) // 2), 2, a.shape[1]))


def askew(a: Any) -> Any:
    """At an odd address, every row with some bytes behind it that are no whole element."""
    if a is None:
        return None
    row = a.shape[1] * a.itemsize + 5
    memory = np.zeros(len(a) * row + 1, np.uint8)
    view: Any = np.ndarray(a.shape, a.dtype, memory, 1, (row, a.itemsize))
    view[...] = a
    return view


def spread_out(a: Any) -> Any:
    return None if a is None else np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3]


def backwards(a: Any) -> Any:
    return None if a is None else a[::-1, ::-1].copy()[::-1, ::-1]


def into(c: Convolution, make: Callable[[Any], Any]) -> Any:
    return c.layer(-1)(c.x, residual=c.residual, out=make(np.full((len(c.x), c.filters), 101, c.y_type)))


WAYS: dict[str, Callable[[Convolution], Any]] = {
    "a layer": lambda c: c.layer(-1)(c.x, residual=c.residual),
    "the function": lambda c: c.once(c.x, c.residual, -1),
    "channels first": lambda c: through(c, turned(c.x), turned(c.residual), 0).T,
    "the function, channels first": lambda c: through(c, turned(c.x), turned(c.residual), 0, once=True).T,
    "channels first, as they lie": lambda c: through(c, c.x.T, turned(c.residual), 0).T,
    "channels in the middle": in_a_middle_axis,
    "Fortran's order": lambda c: through(c, np.asfortranarray(c.x), c.residual),
    "pixels in pairs": in_pairs,
    "odd addresses": lambda c: through(c, askew(c.x), askew(c.residual)),
    "the function, odd addresses": lambda c: through(c, askew(c.x), askew(c.residual), once=True),
    "every second pixel, every third channel": lambda c: through(c, spread_out(c.x), spread_out(c.residual)),
    "backwards": lambda c: through(c, backwards(c.x), backwards(c.residual)),
    "the other byte order": lambda c: through(c, c.x.astype(c.x.dtype.newbyteorder()), c.residual),
    "into odd addresses": lambda c: into(c, askew),
    "into every second": lambda c: into(c, spread_out),
    "into what lies backwards": lambda c: into(c, backwards),
    "into Fortran's order": lambda c: into(c, np.asfortranarray),
    "every pixel alone": one_by_one,
}


def named(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(filter(None, value))


@pytest.fixture(params=GOLDEN, ids=named)
def case(request: pytest.FixtureRequest) -> Any:
    if "bfloat16" in request.param:
        pytest.importorskip("ml_dtypes")
    return request.param


def test_every_way(isa: str, case: Case) -> None:
    """Prepacked or not, in every layout, at any address and strides, together or one by one."""
    convolutions = [convolution(case, shape) for shape in SHAPES]
    found = {name: digest(np.ascontiguousarray(way(c)) for c in convolutions) for name, way in WAYS.items()}
    assert found == dict.fromkeys(WAYS, GOLDEN[case])


@pytest.mark.parametrize(("isa", "case"), BATCHES, indirect=True, ids=named)
def test_in_a_batch_by_any_number_of_threads(isa: str, case: Case) -> None:
    """One of eighty, the others of other numbers; and a batch of itself alone."""
    found: dict[Any, list[Any]] = {}
    most: dict[int, int] = {}
    for shape in SHAPES:
        c = convolution(case, shape)
        batch = pixels_of(case[0], 80, *c.x.shape, seed=7)
        batch[31] = c.x
        added = None
        if c.residual is not None:
            added = pixels_of(case[0], 80, *c.residual.shape, seed=8)
            added[31] = c.residual
        first = [None if a is None else np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in (batch, added)]
        wholes = set()
        for threads in (1, 2, 3, 7):
            last, planes = through(c, batch, added, -1, threads), through(c, *first, 1, threads)
            found.setdefault(threads, []).append(last[31])
            found.setdefault((threads, "first"), []).append(np.ascontiguousarray(planes[31].T))
            wholes |= {last.tobytes(), np.ascontiguousarray(np.moveaxis(planes, 1, -1)).tobytes()}
            if isinstance(layer := c.layer(-1), Conv1x1):
                most[threads] = max(most.get(threads, 0), layer.plan(batch, threads=threads)["threads"])
        alone = through(c, batch[31:32], None if added is None else added[31:32])[0]
        found.setdefault("alone", []).append(alone)
        assert len(wholes) == 1
    assert {way: digest(results) for way, results in found.items()} == dict.fromkeys(found, GOLDEN[case])
    assert all(number == threads for threads, number in most.items()), most


# ------------------------------------------------------------------------------------------- the definition


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """The sum, rounded, and what was rounded off."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """The product, rounded, and what was rounded off: by halves of the factors, whose products are exact."""
    splitter = a.dtype.type(4097 if a.dtype == np.float32 else 134217729)
    halves = []
    for v in (a, b):
        high = splitter * v - (splitter * v - v)
        halves.append((high, v - high))
    (a1, a2), (b1, b2) = halves
    p = a * b
    return p, a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


def fma(a: Any, b: Any, c: Any) -> Any:
    """Product and sum with one rounding, for arrays of ordinary numbers (Boldo and Melquiond).

    What is left of the sum is rounded to odd first, so that the second rounding cannot meet a false tie.
    """
    p, q = two_product(a, b)
    t, u = two_sum(c, q)
    v, w = two_sum(p, t)
    s, e = two_sum(w, u)
    even = s.view(np.int32 if s.dtype == np.float32 else np.int64) % 2 == 0
    return v + np.where((e != 0) & even, np.nextafter(s, np.copysign(s.dtype.type(np.inf), e)), s)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_tests_own_fma_rounds_once(rounded: Any, dtype: Any) -> None:
    a, b = (numbers(4000, seed=seed, dtype="float64").astype(dtype) for seed in (10, 11))
    for power in (0, 1, 12, 24, 27, 30, 53, 60):
        c = (numbers(4000, seed=12, dtype="float64") * 2.0**-power).astype(dtype)
        c[::4] = -(a * b)[::4]  # all but what is rounded off is gone
        c[1::4] = np.round(c[1::4] * 2**power * 8) / 8  # few bits: the middle of two is near
        y = fma(a, b, c)
        for i in range(power % 7, 4000, 17):
            exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
            assert float(y[i]) == rounded(exact, dtype)


def chain(x: Any, w: Any) -> Any:
    """One accumulator, from 0, the channels ascending."""
    total = np.zeros((len(x), w.shape[1]), x.dtype)
    for c in range(x.shape[1]):
        total = fma(w[None, c], x[:, None, c], total)
    return total


def lanes(x: Any, w: Any) -> Any:
    """Sixteen partial sums, channel c in number c mod 16; then number i takes number i + 8, i + 4, i + 2, i + 1."""
    partial = np.zeros((16, len(x), w.shape[1]), x.dtype)
    for c in range(x.shape[1]):
        partial[c % 16] = fma(w[None, c], x[:, None, c], partial[c % 16])
    for half in (8, 4, 2, 1):
        partial = partial[:half] + partial[half:]
    return partial[0]


def summed(order: Callable[[Any, Any], Any], x: Any, w: Any, groups: int) -> Any:
    """(pixels, channels) by (channels of a group, filters), group by group."""
    parts = zip(np.split(x, groups, 1), np.split(w, groups, 1), strict=True)
    return np.concatenate([order(*part) for part in parts], 1)


def test_the_hashes_are_those_of_the_definition(case: Case) -> None:
    if case[2] in (None, "relu", "relu6", "centred", "quantised"):
        assert digest(convolution(case, shape).definition() for shape in SHAPES) == GOLDEN[case]


# ---------------------------------------------------------------------- fmaf in software, as without the instruction

PORTABLE = """
import ctypes, importlib.util, sys
from conv1x1 import _conv1x1
from conv1x1.runtime import restricted
spec = importlib.util.spec_from_file_location("test_golden", FILE)
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)
libm = ctypes.CDLL("libm.so.6")
with open("/proc/self/maps") as maps:
    base = min(int(line.split("-")[0], 16) for line in maps if "libm.so" in line)
print(*(ctypes.cast(getattr(libm, name), ctypes.c_void_p).value - base for name in ("fma", "fmaf")))
with restricted(isa="portable"):
    for case in [("float32", "float32", None), ("float64", "float64", None)]:
        convolutions = [golden.convolution(case, shape) for shape in golden.SHAPES]
        assert golden.digest(c.layer(-1)(c.x, residual=c.residual) for c in convolutions) == golden.GOLDEN[case]
print("done")
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks the GNU C library for its fmaf in software")
def test_the_portable_kernels_with_an_fmaf_in_software(fresh_python: Any) -> None:
    """What they call on a CPU without the instruction gives the same bits."""
    code = f"FILE = {__file__!r}\n{PORTABLE}"
    hardware, software = fresh_python(code), fresh_python(code, GLIBC_TUNABLES="glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2")
    for run in (hardware, software):
        assert run.stdout.endswith("\ndone\n"), run.stderr
    if platform.machine() == "x86_64":  # there the library has both, and they lie at other addresses
        assert hardware.stdout != software.stdout


# ---------------------------------------------------------------------------------------------------------- chains

#: Chains of two axes of pixels, with every kind of element, and the type of x → SHA-256.
CHAINS = {
    ("classifier", "uint16"): "326dd997bd8f1c6f6863b58a889941f2794d3832fb3c3c886fb6cda02503479e",
    ("block", "float32"): "9bf844ed285acea5353b6a3c31b0165b864ed5da70183dbaa6764b1f6eb9564e",
    ("block", "float64"): "594acfdc92d309c4f3d28d58eeb6a019c1912a2d7b9521d1279a6c3b0eccff81",
    ("head", "float32"): "dad4a7379a90472c0337e0c881cc0a0aafb76183a6fbc9472799c946b26beb20",
    ("head", "float16"): "a85d0b3295b123ccbb168da3c6b5d6d42458aec243f80197cef9bd77a1c16a33",
    ("largest", "float32"): "26f7b526d87ab18a02c8e48b26eb44bd5b743d61eecffdde8d1269e7d668ee4e",
    ("bytes", "uint8"): "d9b059791a3386f752d6e43c638d20a468f89be62573f8b81c6b08b4eb648f06",
}


def chain_of(name: str, axis: int) -> Sequential:
    def layer(k: int, c: int, seed: int, **more: Any) -> Conv1x1:
        return Conv1x1(numbers(k, c, seed=seed, dtype="float64"), numbers(k, seed=seed + 1, dtype="float64"), **more)

    norm = LayerNorm(37, numbers(37, seed=3, dtype="float32"), numbers(37, seed=4, dtype="float32"), eps=1e-6)
    elements: dict[str, Callable[[], list[Any]]] = {
        "classifier": lambda: [layer(64, 37, 1, activation="relu"), layer(10, 64, 5), Softmax(), ArgMax()],
        "block": lambda: [norm, layer(148, 37, 6, activation="gelu"), layer(37, 148, 8)],
        "head": lambda: [layer(70, 37, 9, activation="silu"), Pool("mean"), layer(5, 70, 11), Softmax()],
        "largest": lambda: [layer(33, 37, 13), Pool("max", axes=1 if axis == 0 else 0), layer(3, 33, 15)],
        "bytes": lambda: [of_bytes(20, 37, 17), of_bytes(9, 20, 19), ArgMax([*range(300, 309)])],
    }
    return Sequential(elements[name](), skip=name == "block", channel_axis=axis)


def of_bytes(filters: int, channels: int, seed: int) -> QConv1x1:
    w = whole(filters, channels, seed=seed, most=128, dtype=np.int8)
    of_x, of_w = {"x_scale": 0.5, "x_zero_point": np.uint8(77)}, {"w_scale": 0.01, "w_zero_point": 3}
    return QConv1x1(w, **of_x, **of_w, y_scale=2.5, y_zero_point=np.uint8(77))


@pytest.mark.parametrize("case", CHAINS)
def test_chains_keep_their_bits(case: tuple[str, str], isa: str) -> None:
    name, x_type = case
    x = pixels_of(x_type, 23, 61, 37, seed=2)
    first = np.ascontiguousarray(np.moveaxis(x, -1, 0))
    y = chain_of(name, -1)(x)
    assert digest([y]) == CHAINS[case]
    for view in (first, np.asfortranarray(first)):
        moved = chain_of(name, 0)(view, threads=2)
        back = np.moveaxis(moved, 0, -1) if name in ("block", "head", "largest") else moved
        assert digest([np.ascontiguousarray(back)]) == CHAINS[case]
