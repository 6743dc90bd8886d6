"""The contract of an engine, in tests: a class that tests of an engine inherit, with `make` of their own.

The truth is the slow twin, `textbook.py`.  Ranks are threads, on one node or on several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import textbook
from runs import configuration, nodes_of, split_of, sums_of

from distbp.data.loader import Batch
from distbp.data.problem import Problem
from distbp.data.scaling import Scaling
from distbp.engine.engine import Engine
from distbp.engine.sums import Requests
from distbp.engine.work import Work
from distbp.mathematics.network import Network, initialize
from distbp.ranks.communicator import Communicator, run_threads
from distbp.settings.config import Config

FORMS = [(1, 1), (2, 1), (3, 1), (3, 2), (4, 4)]  # ranks, nodes
MODES = {"plain": {}, "reproducible": {"reproducible": True, "grain": 3}}
HEADS = [("mse", "identity"), ("mse", "tanh"), ("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid")]
SIZES = (5, 6, 4, 3)
N = 23

form = pytest.mark.parametrize(("ranks", "nodes"), FORMS)


def samples(loss: str) -> tuple[np.ndarray, np.ndarray, Any]:
    """x of N samples, y as the data have it, and as the text has it."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((N, SIZES[0]))
    if loss == "cross_entropy":
        labels = rng.integers(0, 3, N)
        return x, labels, np.eye(3)[labels]
    y = rng.integers(0, 2, (N, 3)).astype(float) if loss == "binary_cross_entropy" else rng.standard_normal((N, 3))
    return x, y, y


def work_of(comm: Communicator, config: Config, output: str, sizes: tuple[int, ...] = (7,)) -> Work:
    """Work on the samples of the loss of `config`."""
    x, y, _ = samples(config.loss)
    labels = (0, 1, 2) if config.loss == "cross_entropy" else None
    network = Network.of(SIZES, config.activation, output, config.loss)
    problem = Problem(network, Scaling.none(5), Scaling.none(3), labels)
    return Work(comm, config, problem, split_of(x, y, labels), sizes)


def settings(loss: str = "cross_entropy", **options: Any) -> Config:
    """In float64, with tanh, and simple steps unless told otherwise."""
    words = {"activation": "tanh", "optimizer": "sgd", "scale": "none", "loss": loss, **options}
    return configuration("none.h5", "run", **words)


def rows(*numbers: int) -> Batch:
    return Batch(np.array(numbers, np.int64), 0, 0)


def nothing(step: int) -> Requests:
    return Requests()


def parts_of_all(engine: Engine, comm: Communicator) -> list[tuple[slice, np.ndarray]]:
    """What the ranks have of the gradient, and where in w it lies."""
    mine = [(where, g.copy()) for where, g in zip(engine.slices, engine.g, strict=True)]
    return [part for parts in comm.allgather(mine) for part in parts]


class EngineTests:
    """What is true of every engine, in each of the `modes` that it has."""

    modes: tuple[str, ...] = tuple(MODES)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A test that has a `mode` runs in each mode of its engine."""
        if "mode" in metafunc.fixturenames:
            metafunc.parametrize("mode", self.modes)

    def make(self, work: Work) -> Engine:
        """The engine that is tested."""
        raise NotImplementedError

    def on_ranks(
        self,
        action: Callable[[Engine, Communicator], Any],
        config: Config,
        ranks: int = 1,
        nodes: int = 1,
        output: str = "softmax",
        sizes: tuple[int, ...] = (7,),
    ) -> list[Any]:
        """What an action gives with an engine whose w are those of a seed, on each rank."""

        def on_rank(comm: Communicator) -> Any:
            engine = self.make(work_of(comm, config, output, sizes))
            network = Network.of(SIZES, config.activation, output, config.loss)
            engine.fill(lambda: initialize(engine.parameters, network, 3, "glorot"))
            try:
                return action(engine, comm)
            finally:
                engine.close()

        return run_threads(ranks, on_rank, nodes_of(ranks, nodes))

    @form
    @pytest.mark.parametrize(("loss", "output"), HEADS)
    def test_gradient_and_sums_are_those_of_the_text(
        self, loss: str, output: str, mode: str, ranks: int, nodes: int
    ) -> None:
        """Also where some ranks have no sample."""
        batch = [3, 1, 4, 15, 9, 2, 6][: 7 if ranks < 4 else 2]
        x, _, y = samples(loss)

        def action(engine: Engine, comm: Communicator) -> Any:
            W, b = engine.parameters.W, engine.parameters.b
            w = ([None, None, *(W[l].tolist() for l in (2, 3, 4))], [None, None, *(b[l].tolist() for l in (2, 3, 4))])
            before = engine.w.copy()
            stepped = engine.gradient(rows(*batch), Requests())
            assert not stepped.wrong
            assert engine.w.tobytes() == before.tobytes()
            return w, parts_of_all(engine, comm), sums_of(comm, stepped), stepped.samples

        w, parts, sums, count = self.on_ranks(action, settings(loss, **MODES[mode]), ranks, nodes, output)[0]
        L_T, dw, db = textbook.total_loss_and_gradient(*w, x[batch].tolist(), y[batch].tolist(), "tanh", output, loss)
        found = np.full(sum(np.size(dw[l]) + len(db[l]) for l in (2, 3, 4)), np.nan)
        for where, g in parts:
            assert np.isnan(found[where]).all() or np.array_equal(found[where], g)  # nodes have the same
            found[where] = g
        true = np.concatenate([np.ravel(one) for l in (2, 3, 4) for one in (dw[l], db[l])])
        np.testing.assert_allclose(found, true, rtol=1e-10, atol=1e-13)
        assert count == sums.samples == len(batch)
        assert sums.values[0] / len(batch) == pytest.approx(L_T, rel=1e-12)

    @form
    def test_a_step_is_w_minus_eta_times_the_gradient(self, mode: str, ranks: int, nodes: int) -> None:
        def action(engine: Engine, comm: Communicator) -> Any:
            before, batch = engine.w.copy(), rows(*range(7))
            engine.gradient(batch, Requests())
            expected = before.copy()
            for where, g in parts_of_all(engine, comm):
                expected[where] = before[where] - 0.25 * g
            (stepped,) = engine.step([batch], [0.25], 0, nothing)
            assert (stepped.wrong, stepped.samples) == ("", 7)
            np.testing.assert_allclose(engine.w, expected, rtol=1e-14, atol=1e-15)
            return engine.w.tobytes()

        assert len(set(self.on_ranks(action, settings(**MODES[mode]), ranks, nodes))) == 1

    @form
    @pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
    def test_several_batches_in_a_call_are_one_after_another(
        self, optimizer: str, mode: str, ranks: int, nodes: int
    ) -> None:
        """With a short one; learning rates of their own; a limit on the gradient and weight decay."""
        batches = [rows(*range(7)), rows(*range(7, 14)), rows(20, 21), rows(*range(3, 10))]
        rates = [0.1, 0.2, 0.05, 0.0]
        config = settings(
            optimizer=optimizer, momentum=0.9 * (optimizer == "sgd"), weight_decay=0.01, clip_norm=0.3, **MODES[mode]
        )

        def state(engine: Engine) -> bytes:
            return b"".join([engine.w.tobytes(), *(engine.vectors[name].tobytes() for name in sorted(engine.vectors))])

        def at_once(engine: Engine, comm: Communicator) -> Any:
            steps = engine.step(batches, rates, 0, nothing)
            return state(engine), [sums_of(comm, stepped) for stepped in steps]

        def one_by_one(engine: Engine, comm: Communicator) -> Any:
            pairs = zip(batches, rates, strict=True)
            steps = [engine.step([batch], [rate], t, nothing).last for t, (batch, rate) in enumerate(pairs)]
            return state(engine), [sums_of(comm, stepped) for stepped in steps]

        both = [self.on_ranks(one, config, ranks, nodes, sizes=(7, 2)) for one in (at_once, one_by_one)]
        assert both[0] == both[1]
        assert len({one for one, _ in both[0]}) == 1
        assert [sums.samples for sums in both[0][0][1]] == [7, 7, 2, 7]

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_the_same_bits_on_any_ranks(self, dtype: str, optimizer: str) -> None:
        """In the reproducible mode; sums too."""
        if "reproducible" not in self.modes:
            pytest.skip("this engine has no reproducible mode")
        batches = [rows(*range(7)), rows(*range(7, 14)), rows(20, 21)]
        config = settings(optimizer=optimizer, dtype=dtype, clip_norm=0.3, **MODES["reproducible"])

        def action(engine: Engine, comm: Communicator) -> Any:
            steps = engine.step(batches, [0.1] * 3, 0, nothing)
            return engine.w.tobytes(), [sums_of(comm, stepped).values for stepped in steps]

        expected = self.on_ranks(action, config, sizes=(7, 2))[0]
        for ranks, nodes in FORMS[1:]:
            assert self.on_ranks(action, config, ranks, nodes, sizes=(7, 2)) == [expected] * ranks

    @form
    @pytest.mark.parametrize("clip_norm", [0.0, 1e30])
    @pytest.mark.parametrize("flaw", ["weights", "update"])
    def test_a_step_that_is_not_finite_changes_nothing_and_ends_the_call(
        self, flaw: str, clip_norm: float, mode: str, ranks: int, nodes: int
    ) -> None:
        """What is wrong lies in numbers that all ranks share; the steps before it are done."""
        options = {"optimizer": "adam", "dtype": "float32", "activation": "identity", "clip_norm": clip_norm}
        config = settings("mse", **options, **MODES[mode])

        def action(engine: Engine, comm: Communicator) -> Any:
            batches = [rows(*range(7))] * 3
            assert len(engine.step(batches[:1], [1e-3], 0, nothing)) == 1
            size = np.float32(1e30) if flaw == "weights" else np.float32(1e4)
            engine.fill(lambda: engine.w.fill(size))
            before = [engine.w.tobytes(), *(engine.vectors[name].tobytes() for name in engine.vectors)]
            steps = engine.step(batches, [1e-3] * 3, 1, nothing)
            after = [engine.w.tobytes(), *(engine.vectors[name].tobytes() for name in engine.vectors)]
            assert before == after
            return [(stepped.wrong, stepped.by_a_sample) for stepped in steps]

        found = self.on_ranks(action, config, ranks, nodes, "identity")
        ((wrong, by_a_sample),) = found[0]
        assert found == [found[0]] * ranks
        if flaw == "weights":
            assert wrong.startswith(("the loss is ", "the gradient is not finite"))
        else:
            assert " would not be finite in float32" in wrong
        assert by_a_sample == (flaw == "weights")

    @form
    @pytest.mark.parametrize(("dtype", "size"), [("float32", 1e20), ("float64", 1e160)])
    @pytest.mark.parametrize("clip_norm", [0.0, 1.0])
    def test_a_gradient_that_is_not_finite_is_seen_where_the_loss_is(
        self, clip_norm: float, dtype: str, size: float, mode: str, ranks: int, nodes: int
    ) -> None:
        """All a^l are 0, and so L = log 3; but d^2 = (W^3)ᵀ (W^4)ᵀ d^4 is beyond the largest number."""
        config = settings(optimizer="sgd", dtype=dtype, activation="identity", clip_norm=clip_norm, **MODES[mode])

        def action(engine: Engine, comm: Communicator) -> Any:
            def fill() -> None:
                engine.w.fill(0)
                engine.parameters.W[4][0] = size
                engine.parameters.W[3].fill(size)

            engine.fill(fill)
            before = engine.w.tobytes()
            (stepped,) = engine.step([rows(*range(7))] * 2, [0.1] * 2, 0, nothing)
            assert engine.w.tobytes() == before
            return stepped.wrong, stepped.by_a_sample

        found = self.on_ranks(action, config, ranks, nodes)
        assert found == [("the gradient is not finite", True)] * ranks

    @form
    @pytest.mark.parametrize("name", ["stop", "save"])
    def test_a_request_of_one_rank_is_known_to_all_and_ends_the_call(
        self, name: str, mode: str, ranks: int, nodes: int
    ) -> None:
        """An engine asks at least once in a call: what it did not ask for in one call is asked in the next one."""

        def action(engine: Engine, comm: Communicator) -> tuple[list[Requests], list[int]]:
            asked: list[int] = []

            def ask(step: int) -> Requests:
                asked.append(step)
                return Requests(**{name: int(step >= 5 and comm.rank == comm.size - 1)})

            told: list[Requests] = []
            while not any(one.ends_call for one in told):
                steps = engine.step([rows(*range(7))] * 4, [0.1] * 4, 3 + len(told), ask)
                told += [stepped.requests for stepped in steps]
            return told, asked

        for told, asked in self.on_ranks(action, settings(**MODES[mode]), ranks, nodes):
            first = next(step for step in asked if step >= 5)
            assert told == [Requests()] * (first - 4) + [Requests(**{name: 1})]
            assert asked[-1] == first  # nothing was asked after it

    @form
    def test_what_rank_0_has_to_say_goes_to_all(self, mode: str, ranks: int, nodes: int) -> None:
        def action(engine: Engine, comm: Communicator) -> Any:
            return engine.step([rows(0, 1)], [0.1], 0, lambda step: Requests(ahead=1000 * (comm.rank == 0)))

        for (stepped,) in self.on_ranks(action, settings(dtype="float32", **MODES[mode]), ranks, nodes):
            assert stepped.requests == Requests(ahead=1000)
            assert not stepped.requests.ends_call

    @form
    def test_fill_writes_once_on_each_node(self, ranks: int, nodes: int) -> None:
        written: list[int] = []

        def action(engine: Engine, comm: Communicator) -> Any:
            def write() -> None:
                written.append(comm.rank)
                engine.w[:] = 7.0
                for vector in engine.vectors.values():
                    vector[:] = 3.0

            engine.fill(write)
            assert (engine.w == 7.0).all()
            assert all((vector == 3.0).all() for vector in engine.vectors.values())
            return engine.nodes

        found = self.on_ranks(action, settings(optimizer="adam"), ranks, nodes)[0]
        assert len(written) == len(found)
        assert sorted(rank for node in found for rank in node) == list(range(ranks))

    @form
    def test_scores_count_each_sample_once(self, ranks: int, nodes: int) -> None:
        x, labels, y = samples("cross_entropy")

        def action(engine: Engine, comm: Communicator) -> Any:
            W, b = engine.parameters.W, engine.parameters.b
            w = ([None, None, *(W[l].tolist() for l in (2, 3, 4))], [None, None, *(b[l].tolist() for l in (2, 3, 4))])
            return w, engine.evaluation(split_of(x, labels, (0, 1, 2)))(engine.parameters)

        found = self.on_ranks(action, settings(), ranks, nodes)
        L_T, _, _ = textbook.total_loss_and_gradient(
            *found[0][0], x.tolist(), y.tolist(), "tanh", "softmax", "cross_entropy"
        )
        outputs = [textbook.forward(*found[0][0], one.tolist(), "tanh", "softmax")[1][4] for one in x]
        right = sum(int(np.argmax(a)) == label for a, label in zip(outputs, labels, strict=True))
        for _, scores in found:
            assert scores == found[0][1]
            assert scores.samples == N
            assert scores.loss == pytest.approx(L_T, rel=1e-12)
            assert scores.metrics == {"accuracy": right / N}
