"""The compiled core, as the package sees it."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from numpy.typing import ArrayLike

from .checks import Spec
from .checks.arrays import Array

_P = ParamSpec("_P")
_R = TypeVar("_R")

class Layer:
    """The core of `conv1x1.Conv1x1`, made from a canonical spec."""

    def __new__(cls, spec: Spec, /) -> Layer: ...
    def __call__(
        self,
        x: ArrayLike,
        *,
        residual: ArrayLike | None = None,
        out: Array | None = None,
        threads: int | None = None,
    ) -> Array: ...
    @property
    def _spec(self) -> Spec: ...
    def _plan(self, x: Array, residual: Array | None, out: Array | None, threads: int | None, /) -> dict[str, Any]: ...

class Chain:
    """The core of `conv1x1.Sequential`, made of steps that fit one another; of none where it is not for the core."""

    # Layers, ("softmax",), ("layer_norm", channels, eps, weight and bias in float32, in float64) and ("arg_max", type
    # of the result, labels), whose numbers are bytes, or None.
    def __new__(cls, steps: tuple[Layer | tuple[Any, ...], ...], channel_axis: int, skip: bool, /) -> Chain: ...
    def __call__(self, x: ArrayLike, *, out: Array | None = None, threads: int | None = None) -> Array: ...
    def _run(self, x: Array, out: Array | None, threads: int | None, /) -> Any:
        """The result of a canonical call, NotImplemented for every other."""

    def _plan(self, x: Array, threads: int | None, /) -> Any:
        """How a canonical call would run, or NotImplemented."""

def conv1x1(
    x: Any,
    w: Any,
    bias: Any,
    channel_axis: Any,
    stride: Any,
    groups: Any,
    activation: Any,
    residual: Any,
    dtype: Any,
    out: Any,
    threads: Any,
    /,
) -> Any:
    """The result of a canonical call, NotImplemented for every other."""

def in_default_arithmetic(function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """What the function returns, called with this thread's floating-point modes as they are by default."""

def document_call(type: type[Layer] | type[Chain], arguments: str, summary: str) -> None:
    """What `inspect` and `help` say of calls of what is of this type; they run as they do."""

def kernels() -> list[dict[str, Any]]: ...
def restrict(
    isa: str | None = None,
    kernel: str | None = None,
    orientation: str | None = None,
    stages_x: bool | None = None,
    scratches_y: bool | None = None,
    tile_pixels: int | None = None,
    chunk_filters: int | None = None,
) -> None: ...
def moments(
    x: Array,
    axis: int,
    shift: Array | None,
    weights: Array | None,
    keep: Array | None,
    products: bool,
    exact: bool,
    threads: int,
    /,
) -> Array: ...
def choose_types(spec: Spec, x: Array, residual: Array | None, out: Array | None, /) -> dict[str, Any]:
    """The types of such a call, `arithmetic` and `dtype`; or why it is refused, and the numbers to say so with."""

def over_channels(step: str, x: Array, y: Array, weight: Array | None, bias: Array | None, eps: float, /) -> None:
    """A softmax or layer_norm of x, (pixels, channels, pixels) in C order, into y, which may be x."""

def begin_pool(kind: str, wide: bool, channels: int, pixels: int, /) -> object: ...
def add_to_pool(pool: object, x: Array, /) -> None: ...
def end_pool(pool: object, row: Array, /) -> None: ...
def know_bfloat16(type_number: int) -> None: ...
def forget_plans() -> None: ...
def config() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def begin_threads(n: int) -> int: ...
def end_threads(block: int) -> None: ...
def peak_gflops(dtype: str) -> float: ...
def read_gbs(bytes: int) -> float: ...
def cgroup_cpus(root: str) -> int: ...
