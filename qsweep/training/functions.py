"""Intercepting the functions that a net calls while it runs: `F.relu(x)`, `x @ w` and the like.

A module is a place named after it. A function that a module calls itself is a place named after the module and the
function: `block1.relu()`. Functions that torch's layers call in their own `forward` belong to those layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache, partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from qsweep.models.build import CORE, NORMS
from qsweep.models.layers import Dropout


class Kind(Enum):
    """How rounding treats a function."""

    ACTIVATION = "its output is an activation"
    POOL = "its output is an activation: pooled"
    GEMM = "its output is an activation, like that of a linear layer"
    CONVOLUTION = "its operands are activations, its output is not: that of the next layer is"
    OPAQUE = "its output is an activation, and its inner operations can't be seen"
    NONLINEAR = "it may serve as an activation function, but is not rounded"


_NAMES = {
    Kind.ACTIVATION: """
        relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardswish hardtanh tanh sigmoid expit hardsigmoid
        softplus logsigmoid log_sigmoid softsign tanhshrink hardshrink softshrink threshold glu""",
    Kind.POOL: """
        max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
        avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
        adaptive_max_pool3d_with_indices adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices
        fractional_max_pool3d_with_indices""",
    Kind.GEMM: """
        linear bilinear matmul rmatmul mm bmm mv dot vdot inner outer ger addmm addmv addr addbmm baddbmm einsum
        tensordot chain_matmul multi_dot""",
    Kind.CONVOLUTION: """
        conv1d conv2d conv3d conv_tbc convolution conv_transpose1d conv_transpose2d conv_transpose3d""",
    Kind.OPAQUE: """
        scaled_dot_product_attention multi_head_attention_forward scaled_mm scaled_addmm scaled_grouped_mm grouped_mm
        lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
        native_multi_head_attention transformer_encoder_layer_fwd""",
    Kind.NONLINEAR: """
        softmax softmin log_softmax gumbel_softmax exp expm1 log log1p sin cos sinh cosh tan atan arctan erf erfc abs
        absolute square sign sgn heaviside where clamp clip clamp_min clamp_max maximum minimum fmax fmin sinc logit
        logsumexp cumsum max_unpool1d max_unpool2d max_unpool3d interpolate upsample upsample_nearest upsample_bilinear
        grid_sample normalize""",
}
KINDS: Mapping[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""By name without underscores around it: `relu_` and `Tensor.relu` are `relu`, `@` is `matmul`."""

_OTHER_NAMES = """
    affine_grid alpha_dropout assert_int_or_pair batch_norm binary_cross_entropy binary_cross_entropy_with_logits
    boolean_dispatch channel_shuffle cosine_embedding_loss cosine_similarity cross_entropy ctc_loss dropout dropout1d
    dropout2d dropout3d embedding embedding_bag feature_alpha_dropout fold gaussian_nll_loss group_norm
    handle_torch_function has_torch_function has_torch_function_unary has_torch_function_variadic hinge_embedding_loss
    huber_loss instance_norm kl_div l1_loss layer_norm linear_cross_entropy local_response_norm margin_ranking_loss
    mse_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss native_channel_shuffle nll_loss
    one_hot pad pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss rms_norm smooth_l1_loss
    soft_margin_loss triplet_margin_loss triplet_margin_with_distance_loss unfold"""
OTHERS = frozenset(_OTHER_NAMES.split())
"""Functions of `torch.nn.functional` whose outputs are not activations: norms, losses, shapes, embeddings, dropout."""

WITH_OPERANDS = ("linear", "conv1d", "conv2d", "conv3d")
"""Functions whose operands can be rounded, like those of the corresponding layers."""

Handle = Callable[[str, Kind, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""(place, kind, function, its arguments) → the call's result."""
Other = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""The same for a function that is not a place."""


def name_of(function: Any) -> str:
    """A function's name without the underscores around it; `torch.ops.aten.relu.default` is `relu`."""
    return str(getattr(function, "__name__", "")).partition(".")[0].strip("_")


def operation_of(function: Any) -> str:
    """The operation of a function: `+`, `+=` and `__radd__` are `add`."""
    name = name_of(function)
    plain = name[1:] if name[:1] in ("r", "i") and name[1:] in OPERATORS else name
    return OPERATORS.get(plain, plain)


OPERATORS = {**{name: name for name in ("add", "sub", "mul", "pow")}, "truediv": "div", "floordiv": "floor_divide"}
"""By the names of their methods, which start with r if the tensor is on the right, with i if in place."""


def kind_of(function: Any) -> Kind | None:
    """The kind of a function; an unknown one of `torch.nn.functional` may be anything."""
    name = name_of(function)
    if name in KINDS:
        return KINDS[name]
    is_public = getattr(function, "__module__", "") == "torch.nn.functional" and not function.__name__.startswith("_")
    return Kind.NONLINEAR if is_public and name not in OTHERS else None


class FunctionCalls(TorchFunctionMode):
    """Passes each call of a known function to `handle` while a net runs; `handle` runs with the mode off."""

    def __init__(self, own: tuple[type[nn.Module], ...], handle: Handle, other: Other | None = None) -> None:
        """`own`: modules whose inner calls are ignored. `other`: takes the calls of all other functions."""
        super().__init__()
        self._own = (*own, *CORE, *NORMS, Dropout)
        self._handle = handle
        self._other = other
        self._inside: list[tuple[str, bool]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        kind = kind_of(func)
        if not self._inside or self._inside[-1][1]:
            return func(*args, **given)
        if kind is not None:
            return self._handle(self._named(name_of(func).removesuffix("_with_indices")), kind, func, args, given)
        if self._other is not None:
            return self._other(self._named(operation_of(func)), func, args, given)
        return func(*args, **given)

    def _named(self, function: str) -> str:
        """A function's name, with that of the running module."""
        module = self._inside[-1][0]
        return f"{module}.{function}()" if module else f"{function}()"

    # which module is running

    def attach(self, net: nn.Module) -> list[Any]:
        """Start to watch a net; returns handles with a `remove()`."""
        handles: list[Any] = []
        for name, module in net.named_modules():
            handles.append(module.register_forward_pre_hook(partial(self._enter, name)))
            handles.append(module.register_forward_hook(self._leave))
        return handles

    def _enter(self, name: str, module: nn.Module, _: Any) -> None:
        if not name:  # the net itself: a previous call may have raised halfway
            self._inside.clear()
        is_own = isinstance(module, self._own) or (bool(self._inside) and self._inside[-1][1])
        self._inside.append((name, is_own))

    def _leave(self, *_: Any) -> None:
        self._inside.pop()


def in_place_of(function: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Whether a call overwrites its input with its output."""
    name = str(getattr(function, "__name__", ""))
    if name.endswith("_") and not name.endswith("__"):
        return True
    signature = _signature(function)
    if signature is None or "inplace" not in signature.parameters:
        return bool(given.get("inplace", False))
    try:
        return bool(signature.bind(*args, **given).arguments.get("inplace", False))
    except TypeError:  # the call itself will raise the error
        return False


@cache
def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # built-in functions have none
        return None


def first(result: Any) -> Any:
    """The first output of a call that may have several: maxima and indices, a sequence and the last state."""
    return result[0] if isinstance(result, tuple) and result else result


def with_first(result: Any, output: Tensor) -> Any:
    """A call's result with its first output replaced."""
    if not isinstance(result, tuple):
        return output
    rest = (output, *result[1:])
    return type(result)(*rest) if hasattr(result, "_fields") else rest


# --- what can't be seen -----------------------------------------------------------------------------------------------


def closed_modules(net: nn.Module) -> dict[str, nn.Module]:
    """Modules whose inner calls can't be intercepted, by name: scripted and compiled ones."""
    names = ("ScriptModule", "OptimizedModule")
    return {
        name or type(module).__name__: module
        for name, module in net.named_modules()
        if any(base.__name__ in names for base in type(module).__mro__)
    }


def own_functions(output: Tensor) -> list[str]:
    """Names of a user's autograd functions in the graph of an output, in order."""
    found: dict[str, None] = {}
    seen: set[Any] = set()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        own = getattr(type(node), "_forward_cls", None)  # the class that a user has written
        if own is not None and not own.__module__.startswith(("qsweep.", "torch.")):
            found[own.__name__] = None
        waiting += [following for following, _ in node.next_functions]
    return list(found)
