"""Every optimizer against torch.optim, and what distribution and checkpoints rely on."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from distbp.mathematics.optimizer import BLOCK
from distbp.mathematics.optimizers import make_optimizer
from distbp.mathematics.optimizers.adam import Adam
from distbp.mathematics.optimizers.adamw import AdamW
from distbp.mathematics.optimizers.sgd import SGD

COUNT = 2 * BLOCK + 1234  # two whole blocks and a part
STEPS = 20
DEFAULTS = {
    "momentum": 0.0,
    "nesterov": False,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "weight_decay": 0.0,
}
KINDS = {
    "sgd": ("sgd", {}),
    "sgd-decay": ("sgd", {"weight_decay": 0.03}),
    "momentum": ("sgd", {"momentum": 0.9}),
    "momentum-decay": ("sgd", {"momentum": 0.9, "weight_decay": 0.03}),
    "nesterov": ("sgd", {"momentum": 0.8, "nesterov": True}),
    "nesterov-decay": ("sgd", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.03}),
    "adam": ("adam", {}),
    "adam-decay": ("adam", {"weight_decay": 0.03}),
    "adam-other-betas": ("adam", {"beta1": 0.7, "beta2": 0.95, "epsilon": 1e-3}),
    "adamw": ("adamw", {"weight_decay": 0.03}),
    "adamw-no-decay": ("adamw", {}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def optimizer_of(kind):
    name, settings = KINDS[kind]
    return make_optimizer(name, **{**DEFAULTS, **settings})


def learning_rate(t):
    return 0.01 * (1.0 + 0.5 * np.sin(t))


def first_weights():
    return np.random.default_rng(0).standard_normal(COUNT)


def gradients():
    """Of different sizes from element to element, as real ones are; some are zero."""
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.uniform(-4, 1, COUNT)
    scale[::97] = 0.0
    return [rng.standard_normal(COUNT) * scale for _ in range(STEPS)]


def torch_optimizer(torch, kind, w):
    name, settings = KINDS[kind]
    values = {**DEFAULTS, **settings}
    if name == "sgd":
        names = ("momentum", "nesterov", "weight_decay")
        return torch.optim.SGD([w], lr=1.0, **{key: values[key] for key in names})
    kind_of_adam = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    betas = values["beta1"], values["beta2"]
    return kind_of_adam([w], lr=1.0, betas=betas, eps=values["epsilon"], weight_decay=values["weight_decay"])


@pytest.mark.heavy
@every_kind
def test_20_updates_equal_pytorch(kind):
    torch = pytest.importorskip("torch")
    w = first_weights()
    torch_w = torch.tensor(w, requires_grad=True)
    torch_rule = torch_optimizer(torch, kind, torch_w)
    optimizer = optimizer_of(kind)
    state = optimizer.init(w)
    for t, g in enumerate(gradients(), start=1):
        torch_w.grad = torch.tensor(g)
        torch_rule.param_groups[0]["lr"] = learning_rate(t)
        torch_rule.step()
        optimizer.update(w, g, state, learning_rate(t), t)
    assert np.abs(w - first_weights()).max() > 0.01
    np.testing.assert_allclose(w, torch_w.detach().numpy(), rtol=1e-10, atol=1e-10)


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_update_of_slices_is_the_slice_of_the_update(kind, dtype):
    """Bit for bit: slices of any length and start, each with an optimizer of its own."""
    whole_w = first_weights().astype(dtype)
    sliced_w = whole_w.copy()
    whole = optimizer_of(kind)
    whole_state, sliced_state = whole.init(whole_w), whole.init(sliced_w)
    edges = [0, 1, 18, BLOCK - 5, BLOCK + 1, BLOCK + 1, 2 * BLOCK + 700, COUNT]
    slices = [slice(*edge) for edge in pairwise(edges)]
    optimizers = [optimizer_of(kind) for _ in slices]
    for t, g in enumerate(gradients()[:4], start=1):
        g = g.astype(dtype)
        for part, optimizer in zip(slices, optimizers, strict=True):
            state = {name: vector[part] for name, vector in sliced_state.items()}
            optimizer.update(sliced_w[part], g[part].copy(), state, learning_rate(t), t)
        whole.update(whole_w, g, whole_state, learning_rate(t), t)
    assert whole_w.dtype == dtype
    np.testing.assert_array_equal(sliced_w, whole_w)
    for name, vector in whole_state.items():
        np.testing.assert_array_equal(sliced_state[name], vector)


@every_kind
def test_everything_to_be_resumed_is_in_the_state(kind):
    """A new optimizer with a copy of w and of the state goes on as the old one does, bit for bit."""
    w = first_weights()
    optimizer = optimizer_of(kind)
    state = optimizer.init(w)
    assert all(vector.shape == w.shape and vector.dtype == w.dtype and not vector.any() for vector in state.values())
    steps = gradients()
    for t in (1, 2, 3):
        optimizer.update(w, steps[t].copy(), state, learning_rate(t), t)
    resumed_w, resumed_state = w.copy(), {name: vector.copy() for name, vector in state.items()}
    resumed = optimizer_of(kind)
    for t in (4, 5):
        optimizer.update(w, steps[t].copy(), state, learning_rate(t), t)
        resumed.update(resumed_w, steps[t].copy(), resumed_state, learning_rate(t), t)
    np.testing.assert_array_equal(resumed_w, w)


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_allocates_nothing(kind, dtype):
    """A block alone has 64 KB in float32."""
    w = first_weights().astype(dtype)
    g = gradients()[0].astype(dtype)
    optimizer = optimizer_of(kind)
    state = optimizer.init(w)
    optimizer.update(w, g, state, 0.01, 1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        optimizer.update(w, g, state, 0.01, 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4096


def test_one_optimizer_serves_vectors_of_another_dtype_and_length():
    """The scratch memory is made anew when the dtype changes, so results are not rounded to the first one."""
    g = gradients()[0]
    reused, fresh = Adam(), Adam()
    small = first_weights()[:10].astype(np.float32)
    reused.update(small, g[:10].astype(np.float32), reused.init(small), 0.01, 1)
    w, expected = first_weights(), first_weights()
    reused.update(w, g.copy(), reused.init(w), 0.01, 1)
    fresh.update(expected, g.copy(), fresh.init(expected), 0.01, 1)
    np.testing.assert_array_equal(w, expected)


def test_names_and_settings_reach_the_right_rule():
    settings = {"momentum": 0.5, "nesterov": True, "beta1": 0.1, "beta2": 0.2, "epsilon": 0.3, "weight_decay": 0.4}
    assert make_optimizer("sgd", **settings) == SGD(momentum=0.5, nesterov=True, weight_decay=0.4)
    adam = {"beta1": 0.1, "beta2": 0.2, "epsilon": 0.3, "weight_decay": 0.4}
    assert make_optimizer("adam", **settings) == Adam(**adam)
    assert make_optimizer("adamw", **settings) == AdamW(**adam)


BIASES = [
    slice(0, 3),
    slice(700, 705),
    slice(BLOCK - 4, BLOCK + 9),
    slice(BLOCK + 9, BLOCK + 10),
    slice(COUNT - 2, COUNT),
]


@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weight_decay_without_biases(kind, dtype):
    """As two groups of parameters are in PyTorch, each with an optimizer of its own; bit for bit."""
    w = first_weights().astype(dtype)
    is_bias = np.zeros(COUNT, bool)
    for one in BIASES:
        is_bias[one] = True
    name, settings = KINDS[kind]
    groups = []
    for chosen, decay in ((is_bias, 0.0), (~is_bias, settings.get("weight_decay", 0.0))):
        optimizer = make_optimizer(name, **{**DEFAULTS, **settings, "weight_decay": decay})
        groups.append((chosen, w[chosen], optimizer, optimizer.init(w[chosen])))
    optimizer = optimizer_of(kind)
    state = optimizer.init(w)
    for t, g in enumerate(gradients()[:4], start=1):
        g = g.astype(dtype)
        for chosen, own, its_optimizer, its_state in groups:
            its_optimizer.update(own, g[chosen], its_state, learning_rate(t), t)
        optimizer.update(w, g, state, learning_rate(t), t, BIASES)
    for chosen, own, _, its_state in groups:
        np.testing.assert_array_equal(w[chosen], own)
        for name, vector in its_state.items():
            np.testing.assert_array_equal(state[name][chosen], vector)


@pytest.mark.heavy
@every_kind
def test_weight_decay_without_biases_equals_pytorch(kind):
    torch = pytest.importorskip("torch")
    w, cut = first_weights(), 1000
    parts = [torch.tensor(part, requires_grad=True) for part in (w[:cut], w[cut:])]
    rule = torch_optimizer(torch, kind, parts[0])
    rule.add_param_group({"params": [parts[1]], "weight_decay": 0.0})
    optimizer = optimizer_of(kind)
    state = optimizer.init(w)
    for t, g in enumerate(gradients(), start=1):
        for part, its in zip(parts, (g[:cut], g[cut:]), strict=True):
            part.grad = torch.tensor(its)
        for group in rule.param_groups:
            group["lr"] = learning_rate(t)
        rule.step()
        optimizer.update(w, g, state, learning_rate(t), t, [slice(cut, COUNT)])
    np.testing.assert_allclose(w, torch.cat(parts).detach().numpy(), rtol=1e-10, atol=1e-10)


@every_kind
def test_without_biases_a_slice_is_the_slice(kind):
    whole_w, cut = first_weights(), 702
    sliced_w = whole_w.copy()
    optimizer, g = optimizer_of(kind), gradients()[0]
    optimizer.update(whole_w, g.copy(), optimizer.init(whole_w), 0.01, 1, BIASES)
    for part in (slice(0, cut), slice(cut, COUNT)):
        biases = [slice(max(b.start, part.start) - part.start, b.stop - part.start) for b in BIASES]
        biases = [b for b in biases if b.stop > 0 and b.start < part.stop - part.start]
        w = sliced_w[part]
        optimizer_of(kind).update(w, g[part].copy(), optimizer.init(w), 0.01, 1, biases)
    np.testing.assert_array_equal(sliced_w, whole_w)
