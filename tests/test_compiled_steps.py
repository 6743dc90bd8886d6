"""The compiled engine against the slow twin and the engine in NumPy: all functions, rules, types, edges of blocks."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import textbook
from compiled_cases import Case, Guarded, check_near, engine_of, found, kinds
from engine_tests import nothing, rows
from runs import split_of

from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.engine.native.plan import TYPES
from distbp.engine.scaled_rows import ScaledRows
from distbp.engine.sums import Requests
from distbp.mathematics import backprop
from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.losses import LOSSES
from distbp.mathematics.network import Network
from distbp.ranks.communicator import OneProcess

pytestmark = pytest.mark.skipif(not kinds(), reason="there is no compiled step")

HIDDEN = [name for name, one in ACTIVATIONS.items() if one.may_be_hidden]
HEADS = [
    (loss, output, labels)
    for loss in LOSSES
    for output in ACTIVATIONS
    if LOSSES[loss].allows(ACTIVATIONS[output])
    for labels in ((0, 3) if LOSSES[loss].takes_targets else (3,))
]
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
kind = pytest.mark.parametrize("kind", kinds())


@pytest.fixture(autouse=True)
def threads_for_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks have threads here, too."""
    monkeypatch.setattr("distbp.engine.compiled_net.LEAST_WORK", 0)


@kind
@dtypes
@pytest.mark.parametrize("activation", HIDDEN)
def test_every_function_has_the_gradient_of_the_text(activation: str, dtype: str, kind: str) -> None:
    """With every loss, output activation, and kind of y."""
    batch = rows(3, 1, 4, 15, 9)
    for loss, output, labels in HEADS:
        n_F = {0: 3, 3: 3}[labels] if loss != "binary_cross_entropy" or not labels else 1
        classes = labels and (2 if n_F == 1 else 3)
        case = Case((3, 4, 5, n_F), loss, output, activation, dtype, labels=classes)
        x, y = case.samples()
        if classes:
            y = np.eye(3)[y] if n_F > 1 else y.reshape(-1, 1).astype(float)
        engine = engine_of(case.work(OneProcess(), 5), kinds()[kind])
        case.begin(engine)
        W, b = engine.parameters.W, engine.parameters.b
        w = ([None, None, *(W[l].tolist() for l in (2, 3, 4))], [None, None, *(b[l].tolist() for l in (2, 3, 4))])
        stepped = engine.gradient(batch, Requests())
        engine.close()
        some = batch.rows
        L_T, dw, db = textbook.total_loss_and_gradient(*w, x[some].tolist(), y[some].tolist(), activation, output, loss)
        true = np.concatenate([np.ravel(one) for l in (2, 3, 4) for one in (dw[l], db[l])])
        eps = float(np.finfo(dtype).eps)
        assert abs(engine.g[0] - true).max() <= 50 * eps * abs(true).max(), (loss, output, labels)
        assert stepped.part.values[0] / 5 == pytest.approx(L_T, rel=20 * eps)


@kind
@dtypes
@pytest.mark.parametrize(("loss", "output", "labels"), HEADS)
def test_sums_and_gradient_of_scaled_samples_are_those_of_numpy(
    loss: str, output: str, labels: int, dtype: str, kind: str
) -> None:
    """Loss and metric: rmse in the units of the targets, and both kinds of accuracy."""
    n_F = 1 if labels and loss == "binary_cross_entropy" else 3
    case = Case((3, 4, 5, n_F), loss, output, "relu", dtype, labels=labels and (2 if n_F == 1 else 3))
    scaled = LOSSES[loss].scales_targets and not labels
    y = Scaling(np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 3.0])) if scaled else Scaling.none(n_F)
    x = Scaling(np.array([0.1, -2.0, 0.5]), np.array([0.7, 2.0, 3.0]))
    both = []
    for one, lib in ((case, kinds()[kind]), (replace(case, dtype="float64"), None)):
        work = one.work(OneProcess(), 40)
        problem = replace(work.problem, input=x, target=y)
        engine = engine_of(replace(work, problem=problem), lib)
        one.begin(engine)
        stepped = engine.gradient(rows(*range(40)), Requests())
        both.append((stepped.part.values, engine.g[0].copy()))
        engine.close()
    (sums, g), (true_sums, true_g) = both
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(sums, true_sums, rtol=50 * eps)
    assert abs(g - true_g).max() <= 100 * eps * abs(true_g).max()


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "decay": {"weight_decay": 0.1},
    "decay of W alone": {"weight_decay": 0.1, "decay_bias": False, "momentum": 0.5},
    "adam": {"optimizer": "adam"},
    "adam with decay": {"optimizer": "adam", "weight_decay": 0.1},
    "adam with decay of W alone": {"optimizer": "adam", "weight_decay": 0.1, "decay_bias": False},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "adamw with decay of W alone": {"optimizer": "adamw", "weight_decay": 0.1, "decay_bias": False},
    "adamw without decay": {"optimizer": "adamw"},
}


@dtypes
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("clip_norm", [0.0, 0.05, 1e3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_makes_the_steps_of_numpy(optimizer: str, clip_norm: float, ranks: int, dtype: str) -> None:
    """Several steps, with a limit on the gradient below and above its length; w is longer than a block."""
    options = {**OPTIMIZERS[optimizer], "clip_norm": clip_norm}
    case = Case((70, 61, 20, 3), dtype=dtype, options=options)
    batches = [rows(*range(9)), rows(*range(9, 16)), rows(39), rows(*range(20, 29))]
    rates = [0.05, 0.1, 0.0, 0.02]
    truth = found(replace(case, dtype="float64"), None, batches, rates=rates)
    for lib in kinds().values():
        one = found(case, lib, batches, ranks=ranks, rates=rates)
        # Where a gradient is almost 0, Adam's step has any size, and few of its digits are right.
        check_near(one, truth, dtype, 400 if "adam" not in optimizer else 4e4)


def values(dtype: np.dtype[Any], count: int) -> np.ndarray:
    """All values of a small type; of others the extremes, and many between; all finite."""
    rng = np.random.default_rng(2)
    if dtype.itemsize <= 2:
        every = np.arange(256**dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)
        return every[np.isfinite(every)]
    if dtype.kind == "f":
        return np.concatenate([rng.standard_normal(count) * 10.0 ** rng.integers(-30, 30, count), [0.0, -0.0]]).astype(
            dtype
        )
    info = np.iinfo(dtype)
    return np.concatenate([rng.integers(info.min, info.max, count, dtype), [info.min, info.max, 0, -1]]).astype(dtype)


@kind
@dtypes
@pytest.mark.parametrize("is_scaled", [False, True])
@pytest.mark.parametrize("type_", TYPES)
def test_values_of_every_type_become_those_of_numpy_bit_for_bit(
    type_: str, is_scaled: bool, dtype: str, kind: str
) -> None:
    """Of x: with w = 0, b = 1/2, y = 0 and one sample d = 1, so ∂L/∂w_k = a_k.  Of y: with b = 0, ∂L/∂b_j = -y_j c."""
    x = values(np.dtype(type_), 1000)[None, :]
    n = x.shape[1]
    rng = np.random.default_rng(4)
    scaling = Scaling(rng.uniform(-3, 3, n), rng.uniform(0.5, 2, n)) if is_scaled else Scaling.none(n)
    expected = np.empty(x.shape, dtype)
    ScaledRows(scaling, x.dtype, dtype).fill(x, expected)
    one = np.zeros((1, 1), np.float32)
    case = Case((n, 1), "mse", "identity", dtype=dtype)
    for sizes, data, scalings in (
        ((n, 1), (x, one), (scaling, Scaling.none(1))),
        ((1, n), (one, x), (Scaling.none(1), scaling)),
    ):
        problem = Problem(Network.of(list(sizes), "tanh", "identity", "mse"), *scalings, None)
        work = replace(case.work(OneProcess(), 1), problem=problem, training=split_of(*data))
        engine = engine_of(work, kinds()[kind])
        engine.parameters.b[2].fill(0.5 if sizes[0] == n else 0.0)
        engine.gradient(rows(0), Requests())
        engine.close()
        if sizes[0] == n:
            np.testing.assert_array_equal(engine.g[0][:n], expected[0])
        else:
            np.testing.assert_array_equal(engine.g[0][n:], -expected[0] * np.dtype(dtype).type(2.0 / n))


EDGES = (1, 2, 3, 5, 7, 8, 11, 12, 13, 15, 16, 17, 31, 32, 33, 64, 97, 100, 193)
SAMPLES = (*range(1, 41), 63, 64, 65, 255, 256, 257, 513)


def shapes() -> list[tuple[tuple[int, ...], int]]:
    """Sizes and samples: each edge in each place, each number of samples, and sums so long that they are cut."""
    rng = random.Random(6)
    some = [
        ((a, b, c), rng.choice(SAMPLES[:40])) for a, b, c in zip(EDGES, EDGES[5:] + EDGES[:5], EDGES[::-1], strict=True)
    ]
    some += [(tuple(rng.choice(EDGES) for _ in range(rng.choice((2, 3, 4)))), m) for m in SAMPLES]
    long = [(385, 3, 2), (1537, 5, 2), (3, 1600, 2), (2, 9, 1600), (500, 500, 10), (2, 770, 390, 3)]
    many = [((500, 140, 3), 270), ((512, 40, 2), 270)]  # panels, for which W is taken as it is, and is not
    return some + [(sizes, m) for sizes in long for m in (1, 40, 130)] + many


@dtypes
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 8))])
def test_the_same_bits_at_every_edge_for_any_threads_and_cpu(part: int, dtype: str) -> None:
    """The numbers are those of NumPy, and nothing is written outside of an array."""
    for sizes, m in shapes()[part::8]:
        activation, head = (("tanh", "relu")[m % 2], ("mse", "identity"))
        case = Case(sizes, *head, activation, dtype, N=m + 1, options={"optimizer": "adam"})
        batches = [rows(*range(m, 0, -1)), rows(*range(m))]
        truth = found(replace(case, dtype="float64"), None, batches)
        bits = {}
        for name, lib in kinds().items():
            for threads in (1, 2 + m % 2):
                arena = Guarded()
                one = found(case, lib, batches, threads=threads, arena=arena)
                arena.check()
                bits[name, threads] = one.bits
            assert abs(one.gradient - truth.gradient).max() <= 300 * np.finfo(dtype).eps * abs(truth.gradient).max()
            np.testing.assert_allclose(one.sums[0], truth.sums[0], rtol=100 * np.finfo(dtype).eps)
        assert all(bits[name, 2 + m % 2] == bits[name, 1] for name in kinds()), (sizes, m)
        fused = [bits[name, 1] for name, lib in kinds().items() if lib.is_fused]
        assert all(one == fused[0] for one in fused), (sizes, m)


@dtypes
@pytest.mark.parametrize("activation", HIDDEN)
def test_the_same_bits_for_every_function_on_all_kinds_that_are_fused(activation: str, dtype: str) -> None:
    batches = [rows(*range(23)), rows(*range(20, 40))]
    for loss, output, labels in HEADS:
        n_F = 1 if loss == "binary_cross_entropy" and labels else 3
        case = Case((13, 33, n_F), loss, output, activation, dtype, labels=labels and (2 if n_F == 1 else 3))
        bits = [found(case, lib, batches).bits for lib in kinds().values() if lib.is_fused]
        assert all(one == bits[0] for one in bits), (loss, output)


@dtypes
@pytest.mark.parametrize("is_reproducible", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_bits_for_every_optimizer_on_all_kinds_that_are_fused(
    optimizer: str, is_reproducible: bool, dtype: str
) -> None:
    options = {**OPTIMIZERS[optimizer], "clip_norm": 0.05, "reproducible": is_reproducible}
    case = Case((70, 61, 20, 3), dtype=dtype, options={**options, "grain": 4} if is_reproducible else options)
    batches = [rows(*range(9)), rows(*range(9, 16)), rows(39), rows(*range(20, 29))]
    bits = [found(case, lib, batches).bits for lib in kinds().values() if lib.is_fused]
    assert all(one == bits[0] for one in bits)


@dtypes
@pytest.mark.parametrize("m", [1, 5, 16, 23])
def test_a_shard_in_several_pieces(m: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a rank has more of them than another one, or where nodes exchange while they compute."""
    monkeypatch.setattr(backprop, "PIECE_SAMPLES", m)
    case = Case((13, 33, 17, 3), dtype=dtype, options={"optimizer": "adam"})
    batches = [rows(*range(40)), rows(7), rows(*range(11, 36))]
    truth = found(replace(case, dtype="float64"), None, batches)
    for lib in kinds().values():
        for ranks, nodes in ((1, 1), (3, 1), (3, 2)):
            check_near(found(case, lib, batches, ranks=ranks, nodes=nodes, threads=2), truth, dtype, 4e4)


@dtypes
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("ranks", "nodes"), [(2, 1), (3, 1), (5, 1), (8, 1), (2, 2), (5, 2), (8, 3)])
def test_any_ranks_make_the_steps_of_one(
    ranks: int, nodes: int, overlap: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some have no sample; on several nodes with a gradient in several buckets."""
    monkeypatch.setattr("distbp.engine.step_memory.BUCKET_BYTES", 4096)
    case = Case((70, 61, 80, 3), dtype=dtype, options={"momentum": 0.9, "overlap": overlap, "clip_norm": 0.1})
    batches = [rows(*range(40)), rows(7), rows(*range(11, 36))]
    truth = found(replace(case, dtype="float64"), None, batches)
    lib = next(iter(kinds().values()))
    one, two = (found(case, lib, batches, ranks=ranks, nodes=nodes, threads=threads) for threads in (1, 2))
    check_near(one, truth, dtype)
    assert one.bits == two.bits


@kind
@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_and_classes_out_of_range_are_refused(threads: int, ranks: int, nodes: int, kind: str) -> None:
    """Nothing is read there; a rank that waits for the one that has refused does not wait for ever."""
    case = Case(labels=3)
    for row in (-1, 40, 2**62, -(2**63)):
        with pytest.raises(AssertionError, match="out of range"):
            found(case, kinds()[kind], [rows(*range(30), row)], ranks=ranks, nodes=nodes, threads=threads)
    for label in (-1, 3, 2**31 - 1, -(2**31)):
        x, y = case.samples()
        y[8] = label
        work = case.work(OneProcess(), 20, threads=threads)
        engine = engine_of(replace(work, training=split_of(x, y, (0, 1, 2))), kinds()[kind])
        with pytest.raises(AssertionError, match="out of range"):
            engine.step([rows(*range(20))], [0.1], 0, nothing)
        engine.close()


@kind
@dtypes
@pytest.mark.parametrize("j", [0, 1, 2])
def test_where_one_output_is_nan_the_loss_is_not_finite(j: int, dtype: str, kind: str) -> None:
    """z_j = inf - inf of one sample, whose class is j or another one; all others are finite."""
    for label in (0, 1, 2):
        case = Case((5, 3), dtype=dtype)
        x, y = case.samples()
        x[8], y[8] = [1e30, 1e30, 1, 2, 3], label
        work = replace(case.work(OneProcess(), 20), training=split_of(x, y, (0, 1, 2)))
        engine = engine_of(work, kinds()[kind])
        engine.parameters.W[2][:, 2:] = 1
        engine.parameters.W[2][j, :2] = [1e20, -1e20] if dtype == "float32" else [1e300, -1e300]
        (stepped,) = engine.step([rows(*range(20))], [0.1], 0, nothing)
        engine.close()
        assert not np.isfinite(stepped.part.values[0])
        assert stepped.wrong.startswith("the loss is ")


@kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_where_an_input_is_not_finite_the_loss_is_not(value: float, kind: str) -> None:
    case = Case((5, 3), dtype="float32")
    x, y = case.samples()
    x[8, 2] = value
    work = replace(case.work(OneProcess(), 20), training=split_of(x, y, (0, 1, 2)))
    engine = engine_of(work, kinds()[kind])
    case.begin(engine)
    (stepped,) = engine.step([rows(*range(20))], [0.1], 0, nothing)
    engine.close()
    assert stepped.wrong.startswith("the loss is ")
