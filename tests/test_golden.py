"""The bits of a result, as hashes: they stay what they are, on every machine and through every change for speed."""

import hashlib

import numpy as np
import pytest

from conv1x1 import conv1x1

SHAPES = [  # pixels, channels, filters, groups
    (37, 192, 1, 1),
    (37, 100, 4, 1),
    (130, 3, 4, 1),
    (50, 31, 3, 1),
    (61, 192, 40, 1),
    (29, 520, 33, 1),
    (40, 60, 24, 3),
]

GOLDEN = {
    ("float32", "none"): "2c2769151ef3c8ce40da6fdb5b00c14c1d9ca7a7b8aaa42d967fae2f2e787237",
    ("float32", "relu6"): "b93bd44875eaa2d110193be973e363d6cf2aa3c342c0a5c99d27ba7531f2e05e",
    ("float32", "hardswish"): "dd111465260fa8011a4de9942699366b3fee903b92c3bae7fc8d7c13c3e3f721",
    ("float32", "sigmoid"): "91841b3692f3b7141aafc7a4108477cc963fa5c989a5655f868cadc3157c051f",
    ("float32", "silu"): "8092e4d272dc3b985c4f64823df07403dac30bb500c9abd36573ed14bdfbccec",
    ("float32", "tanh"): "9622dc3ace0ec4c35709ddac8c101afce830b37f2981f90b66c18b8537ff4fff",
    ("float32", "gelu"): "ff4d1328a9555469781691fcb6ee95ed3d644577ee31e34179f39b605e43b097",
    ("float64", "none"): "ab68dde4544d319d2933ac65f122faaaf442173c84b66519be748af3d9a7e621",
    ("float64", "relu6"): "56548b187e4ed41a785c551c2b2b2af95ca3169d69ea607bd0f6e8e80830b82e",
    ("float64", "hardswish"): "2d9c0c5085ee845ab1e37c9254c7a97953f7bad464d0e3a5734525f803c07c64",
    ("float64", "sigmoid"): "0a9ef8f2c005526e527bc5aeb81078f91f63eea227f9d144a4f8c73e9897a113",
    ("float64", "silu"): "f0dcdcdfecce0799537b7d09f5cd76bd158404bd55b6c09ff302480a4b467f24",
    ("float64", "tanh"): "d92610261866b1862e85dfb6b0655783996693bb078a91b1c35f55f12544625b",
    ("float64", "gelu"): "594500097578be77481bc247819c29fb4c91a14ad9f5d482308d08c4107a11e4",
}

GOLDEN_TYPES = {
    ("float16", "float16"): "feb19bbc6bae390f0da845dbd53d60d449ff573b35fd608508309d048b47be15",
    ("bfloat16", "bfloat16"): "1ecbc21422161c768e884745492818059f2c365c3c8a4142d06364a64fa82441",
    ("uint8", "float32"): "d23a1b96b02e43329a537ab5b80085af938a2f26dd456daa15449e1aa5f9a68a",
    ("int8", "int32"): "a454a73edb381b301c84114702070990de9065d09117fc0766135d6505e33953",
    ("uint8", "int32"): "036c25be5e651c9c4d3ce0779147685af31fa5d8c8bde30d4fb5b9477b1ba5c0",
}


def numbers(*shape: int, seed: int, dtype: str) -> np.ndarray:
    """Fractions in [-1, 1) from a multiplicative generator on integers: no library's random numbers, no libm."""
    index = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(1000003 * seed)
    mixed = (index * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)) >> np.uint64(33)
    return (mixed.astype(np.float64) / 2**30 - 1).reshape(shape).astype(dtype)


def digest(dtype: str, activation: str | None) -> str:
    total = hashlib.sha256()
    for pixels, channels, filters, groups in SHAPES:
        x = numbers(pixels, channels, seed=1, dtype=dtype)
        w = numbers(filters, channels // groups, seed=2, dtype=dtype)
        bias, residual = numbers(filters, seed=3, dtype=dtype), numbers(pixels, filters, seed=4, dtype=dtype)
        y = conv1x1(x, w, bias, groups=groups, residual=residual, activation=activation)
        first = conv1x1(x.T, w, bias, groups=groups, residual=residual.T, activation=activation, channel_axis=0)
        assert first.T.tobytes() == y.tobytes()
        total.update(y.tobytes())
    return total.hexdigest()


def digest_of_types(x_type: str, y_type: str) -> str:
    """The same for pixels of any type: every byte, or as many fractions; with integer weights for an integer result."""
    total = hashlib.sha256()
    for pixels, channels, filters, groups in SHAPES:
        steps = np.floor(128 * numbers(pixels, channels, seed=1, dtype="float64"))
        x = steps.astype(np.int8).view(x_type) if x_type.endswith("int8") else (steps / 128).astype(x_type)
        w, bias = (
            numbers(filters, channels // groups, seed=2, dtype="float32"),
            numbers(filters, seed=3, dtype="float32"),
        )
        if y_type == "int32":
            w, bias = np.floor(128 * w).astype(np.int8), np.floor(2**20 * bias).astype(np.int32)
        y = conv1x1(x, w, bias, groups=groups, activation="relu")
        first = conv1x1(x.T, w, bias, groups=groups, activation="relu", channel_axis=0)
        assert (y.dtype, first.T.tobytes()) == (y_type, y.tobytes())
        total.update(y.tobytes())
    return total.hexdigest()


@pytest.mark.parametrize(("x_type", "y_type"), GOLDEN_TYPES)
def test_golden_types(isa: str, x_type: str, y_type: str) -> None:
    if x_type == "bfloat16":
        pytest.importorskip("ml_dtypes")
    assert digest_of_types(x_type, y_type) == GOLDEN_TYPES[x_type, y_type]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [None, "relu6", "hardswish", "sigmoid", "silu", "tanh", "gelu"])
def test_golden(isa: str, dtype: str, activation: str | None) -> None:
    assert digest(dtype, activation) == GOLDEN[dtype, activation or "none"]
