"""Modules of torch as chains: the same numbers, or a refusal that names what is not pointwise as `state_dict` does."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, Sequential
from conv1x1.sequential import LayerNorm
from conv1x1.torch import from_module, imported

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
nn = torch.nn
F = torch.nn.functional

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def lived(module: Any) -> Any:
    """With batch norms that have seen something, in the mode of `eval`."""
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            if m.affine:
                nn.init.normal_(m.weight)
                nn.init.normal_(m.bias)
    return module.eval()


def image(channels: int, *pixels: int) -> Any:
    random = np.random.default_rng(channels)
    return random.standard_normal((2, channels, *(pixels or (5, 6)))).astype(np.float32)


def assert_as_its_own(module: Any, x: Any, atol: float = 1e-5, **options: Any) -> Any:
    net = from_module(module, **options)
    with torch.no_grad():
        whole = module(torch.from_numpy(x)).numpy()
    y = net(x)
    assert y.shape == whole.shape
    np.testing.assert_allclose(y, whole, atol=atol, rtol=1e-5)
    return net


# -------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"groups": 2}, {"stride": 2}])
def test_convolutions(axes: int, options: Any) -> None:
    conv = getattr(nn, f"Conv{axes}d")(6, 4, 1, **options)
    assert_as_its_own(conv, image(6, *(6, 7, 8)[:axes]))


ACTIVATIONS = [
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.Hardswish,
        nn.Hardsigmoid,
        nn.Sigmoid,
        nn.SiLU,
        nn.Tanh,
        nn.GELU,
        nn.Hardtanh,
    ),
    *(nn.PReLU, lambda: nn.LeakyReLU(0.2), lambda: nn.Hardtanh(-0.5, 2.0), lambda: nn.ReLU(inplace=True)),
]


@pytest.mark.parametrize("make", ACTIVATIONS)
def test_activations(make: Any) -> None:
    net = assert_as_its_own(nn.Sequential(nn.Conv2d(5, 7, 1), make(), nn.Conv2d(7, 3, 1)), image(5))
    assert len(net) == 2
    assert net[0].activation is not None
    assert_as_its_own(nn.Sequential(make(), nn.Conv2d(5, 3, 1)), image(5))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_folded(affine: bool) -> None:
    for norm, conv, x in ((nn.BatchNorm2d, nn.Conv2d, image(4)), (nn.BatchNorm1d, nn.Conv1d, image(4, 9))):
        after = lived(nn.Sequential(conv(4, 6, 1), norm(6, affine=affine), nn.ReLU()))
        assert isinstance(assert_as_its_own(after, x), Conv1x1)
        before = lived(nn.Sequential(norm(4, eps=1e-3), conv(4, 6, 1, groups=2), norm(6)))
        assert isinstance(assert_as_its_own(before, x), Conv1x1)


def test_linear_layers_take_the_last_axis() -> None:
    mlp = lived(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)))
    assert assert_as_its_own(mlp, image(6)[:, :, 0, 0]).channel_axis == -1
    tokens = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6))
    net = assert_as_its_own(tokens, image(5, 6))
    assert net.channel_axis == -1
    assert from_module(nn.Linear(3, 4), channel_axis=0).channel_axis == 0


def test_softmax_over_the_channels() -> None:
    assert_as_its_own(nn.Sequential(nn.Conv2d(5, 7, 1), nn.Softmax(1)), image(5))
    assert_as_its_own(nn.Sequential(nn.Conv2d(5, 7, 1), nn.Softmax2d()), image(5))
    assert_as_its_own(nn.Sequential(nn.Linear(5, 7), nn.Softmax(-1)), image(3, 5))
    refused(nn.Sequential(nn.Conv2d(5, 7, 1), nn.Softmax(-1)), "not all of them are pointwise over the same channels")


def test_where_the_channels_will_be() -> None:
    module = nn.Sequential(nn.Conv2d(5, 7, 1), nn.ReLU(), nn.Conv2d(7, 3, 1))
    x = image(5)
    y = from_module(module)(x)
    np.testing.assert_allclose(from_module(module, channel_axis=-1)(np.moveaxis(x, 1, -1)), np.moveaxis(y, 1, -1))


# ------------------------------------------------------------------------------------------------- modules


class Bottleneck(nn.Module):
    """Children in another order than forward's, and its own input added before the last activation."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(4, 8, 1)
        self.norm2 = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(8, 4, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        y = self.relu(self.norm1(self.first(x)))
        return self.relu(self.norm2(self.last(y)) + x)


def test_forward_decides_on_the_order() -> None:
    net = assert_as_its_own(
        lived(nn.Sequential(nn.Conv2d(3, 8, 1), Bottleneck(), Bottleneck(), nn.Conv2d(8, 2, 1))), image(3)
    )
    assert net[1].skip
    assert [e.activation for e in net[1]] == ["relu", "relu"]


class ConvNeXt(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.up, self.act, self.down = nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Any) -> Any:
        y = x.permute(0, 2, 3, 1)
        y = self.down(self.act(self.up(self.norm(y))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


def test_axes_that_change_their_order_and_change_it_back() -> None:
    nn.init.normal_((block := ConvNeXt(6)).gamma)
    net = assert_as_its_own(block, image(6))
    assert isinstance(net, Sequential)
    assert net.channel_axis == 1


class Norm2d(nn.Module):
    """As ConvNeXt has it, for channels first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(channels)), nn.Parameter(torch.randn(channels))

    def forward(self, x: Any) -> Any:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Permuted(nn.LayerNorm):
    """As torchvision has it."""

    def forward(self, x: Any) -> Any:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("norm", [Norm2d, Permuted])
def test_layer_norms_over_channels_that_come_first(norm: Any) -> None:
    net = assert_as_its_own(nn.Sequential(nn.Conv2d(5, 8, 1), norm(8), nn.Conv2d(8, 4, 1)), image(5))
    assert [type(e) for e in net] == [Conv1x1, LayerNorm, Conv1x1]
    assert_as_its_own(nn.Sequential(norm(5), nn.Conv2d(5, 4, 1)), image(5))


class Written(nn.Module):
    """In functions and methods."""

    def __init__(self, what: Any, channels: int = 5) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, 6, 1), nn.Conv2d(6, 6, 1)
        self.register_buffer("mean", torch.randn(1, channels, 1, 1))
        self.register_buffer("scale", torch.rand(channels, 1, 1) + 1)
        self.what = what

    def forward(self, x: Any) -> Any:
        return self.what(self, x)


WRITTEN = [
    lambda m, x: m.head(F.relu(m.conv((x - m.mean) / m.scale))),
    lambda m, x: torch.sigmoid(m.head(m.conv(x).clamp(min=-0.5, max=1))),
    lambda m, x: m.head(m.conv(x).relu_()).softmax(dim=1),
    lambda m, x: m.head(F.gelu(m.conv(x))) * 2 + 1,
    lambda m, x: (lambda y: m.head(y * torch.sigmoid(y)))(m.conv(x)),
    lambda m, x: (lambda y: y * F.hardsigmoid(y))(m.conv(x)),
    lambda m, x: F.leaky_relu(m.conv(x), 0.3),
    lambda m, x: (lambda y: y + F.silu(m.head(y)))(m.conv(x)),
    lambda m, x: (lambda y: F.relu(m.head(y) + m.head(m.head(y))))(m.conv(x)),
    lambda m, x: (lambda y: m.head(y + y))(m.conv(x)),
    lambda m, x: (lambda y: y - m.head(F.relu(y)))(m.conv(x)),
    lambda m, x: 1 - torch.sigmoid(F.dropout(m.conv(x), 0.5, training=False)),
    lambda m, x: m.head(F.relu(m.conv(x))).mean((2, 3)),
    lambda m, x: m.head(F.relu(m.conv(x))).amax(dim=(-2, -1)),
    lambda m, x: F.relu(-m.conv(x)).mean((2, 3), keepdim=True).view(x.size(0), -1),
    lambda m, x: m.conv(x).mean((2, 3), keepdim=True).reshape(x.shape[0], 6),
]


@pytest.mark.parametrize("what", WRITTEN)
def test_functions_and_methods(what: Any) -> None:
    assert_as_its_own(Written(what).eval(), image(5))


def test_argmax_ends_a_chain() -> None:
    module = Written(lambda m, x: m.head(F.relu(m.conv(x))).argmax(dim=1))
    y = from_module(module)(image(5))
    np.testing.assert_array_equal(y, module(torch.from_numpy(image(5))).numpy())
    assert y.dtype == np.uint8


def test_heads_after_pooling() -> None:
    head = nn.Sequential(
        *(nn.Conv2d(5, 16, 1), nn.BatchNorm2d(16), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Dropout(0.2), nn.Linear(16, 10)),
    )
    assert_as_its_own(lived(head), image(5))
    points = nn.Sequential(nn.Conv1d(3, 16, 1), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 4))
    assert_as_its_own(points, image(3, 40))


# ------------------------------------------------------------------------------------------------- weights


def test_weights_that_are_computed() -> None:
    named = nn.utils.parametrizations.weight_norm(nn.Conv2d(5, 4, 1))
    with torch.no_grad():
        named.parametrizations.weight.original0 *= 2
    assert_as_its_own(named.eval(), image(5))
    hooked = nn.utils.weight_norm(nn.Conv2d(5, 4, 1))
    with torch.no_grad():
        hooked.weight_g *= 3
    assert_as_its_own(hooked.eval(), image(5))
    pruned = nn.Conv2d(5, 4, 1)
    importlib.import_module("torch.nn.utils.prune").random_unstructured(pruned, "weight", 0.5)
    with torch.no_grad():
        pruned.weight_orig += 1
    assert_as_its_own(pruned.eval(), image(5))
    assert_as_its_own(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4)).eval(), image(3, 5))


def test_other_types_of_weights() -> None:
    module = nn.Sequential(nn.Conv2d(5, 7, 1), nn.ReLU(), nn.Conv2d(7, 3, 1)).double()
    net, x = from_module(module), image(5).astype(np.float64)
    np.testing.assert_allclose(net(x), module(torch.from_numpy(x)).detach().numpy(), atol=1e-13)
    half = nn.Sequential(nn.Conv2d(5, 7, 1), nn.ReLU()).to(torch.bfloat16)
    net = from_module(half)
    np.testing.assert_array_equal(net.weight, half[0].weight.float().detach().numpy()[:, :, 0, 0])
    single = from_module(nn.Conv2d(5, 3, 1))
    assert single.weight.dtype == np.float32


# ------------------------------------------------------------------------------------------------ refusals


def refused(module: Any, *words: str, **options: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        from_module(module, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def nested(m: Any) -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Identity(), m), nn.Conv2d(4, 4, 1))


def test_other_kernels_are_named_as_in_the_state() -> None:
    refused(nested(nn.Conv2d(4, 4, 3, padding=1)), "1.1.weight", "(3, 3)")
    refused(nested(nn.Conv2d(4, 4, 1, padding=1)), "1.1 (Conv2d)", "pads")
    refused(nested(nn.ConvTranspose2d(4, 4, 1)), "1.1 (ConvTranspose2d)", "not pointwise")
    refused(nested(nn.MaxPool2d(2)), "1.1 (MaxPool2d)")
    refused(nested(nn.GroupNorm(2, 4)), "1.1 (GroupNorm)")
    refused(nested(nn.GELU("tanh")), "1.1 (GELU)", "approximate='none'")
    refused(nested(nn.AdaptiveAvgPool2d(2)), "1.1 (AdaptiveAvgPool2d)", "(2, 2)")
    refused(nested(nn.PReLU(4)), "1.1 (PReLU)", "slope")
    refused(nested(nn.LayerNorm([4, 8, 8])), "1.1 (LayerNorm)")


def test_training_and_what_a_batch_decides() -> None:
    refused(nested(nn.BatchNorm2d(4)), "1.1 (BatchNorm2d)", "module.eval()")
    refused(nested(nn.Dropout(0.5)), "1.1 (Dropout)", "module.eval()")
    refused(lived(nested(nn.BatchNorm2d(4, track_running_stats=False))), "1.1.running_mean", "batch")
    assert_as_its_own(nested(nn.Dropout(0.0)), image(3))


class Branching(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


class Squaring(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * x


class Excited(nn.Module):
    """Squeeze and excitation: what multiplies a pixel depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(self.conv(x.mean((2, 3), keepdim=True)))


class Relayed(nn.Conv2d):
    """Has a forward of its own."""

    def forward(self, x: Any) -> Any:
        return super().forward(torch.cumsum(x, 2))


def test_what_no_chain_does() -> None:
    refused(nested(Branching()), "1.1 (Branching)", "torch.fx")
    refused(nested(Squaring()), "1.1 (Squaring)", "multiplies")
    refused(nested(Excited()), "1.1 (Excited)")
    refused(nested(Relayed(4, 4, 1)), "cumsum")
    refused(nested(Written(lambda m, x: torch.cat([x, x], 1))), "1.1 (Written)", "more than one value")
    refused(nested(Written(lambda m, x: 1 / x)), "divides by a value")
    refused(Written(lambda m, x: m.conv(x).permute(0, 2, 3, 1)), "another order")
    refused(Written(lambda m, x: (m.conv(x), x)), "not one tensor")
    refused(torch.jit.script(nn.Conv2d(3, 4, 1)), "as it was written")
    refused(nn.Conv2d, "expected a module", "got Conv2d")
    refused(np.ones(3), "expected a module")


def test_a_hook_that_changes_the_result_is_found_out_with_both_numbers() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    module[0].register_forward_hook(lambda m, args, y: y * 1.01)
    refused(module, "Sequential", "imported model gives", "rounding explains")
    refused(module, "rounding explains", pixels=image(3))


def test_how_many_channels_is_said_by_pixels_where_nothing_else_does() -> None:
    for module in (nn.Sequential(), nn.ReLU(), nn.Identity()):
        refused(module, "how many channels", "pixels=")
        assert_as_its_own(module, image(5), pixels=image(5))
    assert_as_its_own(nn.Softmax(1), image(5))


def test_rows_of_tables() -> None:
    for layers in ([nn.BatchNorm1d(4), nn.Linear(4, 3)], [nn.Linear(4, 3), nn.Softmax(1)]):
        assert assert_as_its_own(lived(nn.Sequential(*layers)), image(4)[:, :, 0, 0]).channel_axis == -1
    assert_as_its_own(lived(nn.BatchNorm1d(4)), image(4, 7))


def test_modules_that_hold_another() -> None:
    inner = nn.Conv2d(5, 3, 1)
    for module in (nn.DataParallel(inner), torch.compile(inner)):
        np.testing.assert_array_equal(from_module(module).weight, inner.weight.detach().numpy()[:, :, 0, 0])


def test_the_module_stays_as_it_is() -> None:
    module = lived(nn.Sequential(nn.Conv2d(3, 8, 1), Bottleneck()))
    before = copy.deepcopy(module.state_dict())
    _, compared = imported(module, 1, None)
    assert compared.difference <= compared.bound < 1e-3
    assert all(torch.equal(a, b) for a, b in zip(before.values(), module.state_dict().values(), strict=True))
