"""`distbp bench`: the model against numbers worked out by hand, and the command.  No measured second is looked at."""

from __future__ import annotations

import itertools
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from runs import BIN, Runner, check_error, nodes_of

from distbp.bench import chart, rounds
from distbp.bench.bench import bench, halves
from distbp.bench.findings import Findings, Wanted
from distbp.bench.measure import Measured, Whole
from distbp.bench.model import Link, Node, Passes, doubled, fit_link, given_link, samples_of_a_rank, step
from distbp.bench.overlap import first_part
from distbp.bench.predict import rows, worth
from distbp.bench.products import products_of_a_sample
from distbp.bench.table import in_seconds, lines
from distbp.errors import DataError, RunError, Stopped, UsageError
from distbp.mathematics.network import Network
from distbp.ranks.communicator import Communicator, OneProcess, run_threads
from distbp.settings.config import Config
from distbp.settings.merged import merge

NODE = Node(2, 4, {10: Passes(1.0, 2.0, 4.0), 20: Passes(2.0, 3.0, 7.0)}, 0.25, 0.5, 1000, 1)
LINK = Link(0.001, 0.002)
QUICK = ("--hidden", "6", "--batch-size", "8", "--seconds", "0.1", "--threads", "1")
WITHOUT_DATA = ("--inputs", "5", "--outputs", "3")


def test_the_exchange() -> None:
    """2 log₂ N k α + 2 (N-1)/N B β; 2 (k α + B β) more where N is no power of two."""
    assert LINK.seconds(1, 1000, 1) == 0
    assert LINK.seconds(2, 1000, 1) == pytest.approx(0.002 + 2.0)
    assert LINK.seconds(4, 1000, 3) == pytest.approx(2 * 2 * 3 * 0.001 + 3.0)
    assert LINK.seconds(5, 1000, 1) == pytest.approx((4 + 2) * 0.001 + 3.0 + 4.0)


@pytest.mark.parametrize("nodes", [2, 3, 8])
def test_what_was_measured_is_predicted(nodes: int) -> None:
    link = Link(3e-6, 8e-9)
    rounds_of = {2: 1, 3: 3, 8: 3}[nodes]
    found = fit_link(nodes, rounds_of * link.alpha, 10**6, link.seconds(nodes, 10**6, 2), 2)
    assert (found.alpha, found.beta) == (pytest.approx(link.alpha), pytest.approx(link.beta))
    fast = fit_link(nodes, 1.0, 100, 0.5, 1)  # a short message that takes less than the shortest
    assert fast.beta == 0
    assert fast.seconds(nodes, 100, 1) == pytest.approx(0.5)


def test_a_network_that_is_said_to_be() -> None:
    link = given_link(2.0, 100.0, 4)
    assert link.alpha == pytest.approx(2e-6)
    # 4 ranks, each with a quarter of 1 GB, over 2 nodes: 1 GB through a link of 12.5 GB/s
    assert link.seconds(2, 0.25e9, 1) == pytest.approx(0.08 + 4e-6)


def test_a_step_by_hand() -> None:
    one = step(NODE, None, 1, 30)  # 15 samples a rank
    assert (one.data, one.forward, one.backward) == (1.5, 2.5, 5.5)
    assert one.seconds == pytest.approx(1.5 + 2.5 + 5.5 + 0.25 + 0.5)
    assert one.largest == "passes"
    two = step(NODE, LINK, 2, 40)  # 10 samples a rank
    assert two.seconds == pytest.approx(1 + 2 + 4 + 0.25 + 2.002 + 0.5)
    node = replace(NODE, first=0.75, last=0.25)  # a quarter of the backward pass, 1 s, is less than 3/4 of the exchange
    assert step(node, LINK, 2, 40).exchange == pytest.approx(2.002 - 1.0)
    assert step(node, replace(LINK, busy=0.3), 2, 40).exchange == pytest.approx(2.002 - 0.7)
    assert step(replace(NODE, first=0.0, last=0.5), LINK, 2, 40).exchange == pytest.approx(2.002 / 2)
    more = step(NODE, None, 1, 60)  # 30 samples a rank: on from the last line
    assert (more.data, more.forward, more.backward) == (3.0, 4.0, 10.0)
    assert step(NODE, LINK, 64, 64).forward == 2.0  # fewer than were measured take as long as those


def test_samples_of_a_rank() -> None:
    assert samples_of_a_rank(10, None, 4) == 3
    assert samples_of_a_rank(10, 4, 2) == 8  # grains of 4, 4, 2
    assert samples_of_a_rank(10, 4, 64) == 4
    assert samples_of_a_rank(3, None, 64) == 1


def test_more_nodes_need_more_exchange_and_less_computing() -> None:
    steps = [step(NODE, LINK, nodes, 80) for nodes in (1, 2, 4, 8, 64)]
    for fewer, more in itertools.pairwise(steps):
        assert more.exchange > fewer.exchange
        assert more.forward + more.backward <= fewer.forward + fewer.backward


def test_numbers_of_nodes_and_ranks() -> None:
    assert [doubled(nodes) for nodes in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]
    assert halves(12) == [12, 6, 3, 1]
    assert halves(1) == [1]


def test_operations_of_the_products() -> None:
    network = Network.of([4, 6, 3], "relu", "softmax", "cross_entropy")
    # W a: 24 + 18, d aᵀ: 18 + 24, Wᵀ d: 18; each a multiplication and an addition
    assert products_of_a_sample(network) == 2 * (42 + 42 + 18)


@pytest.mark.parametrize(("seconds", "words"), [(2.0, "2 s"), (0.0125, "12.5 ms"), (3e-6, "3 µs"), (5e-9, "5 ns")])
def test_seconds_for_people(seconds: float, words: str) -> None:
    assert in_seconds(seconds) == words


def findings(*, link: Link | None = LINK, nodes: int = 2) -> Findings:
    """Of NODE, and of one that is slower alone, and faster where little is computed."""
    other = Node(1, 8, {10: Passes(1.0, 1.0, 4.0), 20: Passes(2.0, 3.0, 7.0)}, 0.0, 0.5, 1000, 1)
    wholes = [Whole(1, 40, 14.0), Whole(2, 40, 10.0)][:nodes]
    allreduce = {8: 0.001, 1000: 2.002} if link else {}
    measured = [Measured(node, link, wholes, 20, 1e9, 2e9, allreduce) for node in (NODE, other)]
    network = Network.of([5, 6, 3], "relu", "softmax", "cross_entropy")
    return Findings(Config(), network, 40, None, nodes, measured)


def test_the_table() -> None:
    wanted = Wanted(nodes=4)
    found = rows(findings(), wanted)
    assert [row.nodes for row in found] == [1, 2, 4]
    first, second, _ = found
    assert (first.node, first.strong_efficiency, first.weak_efficiency) == (NODE, 1.0, 1.0)
    assert first.strong_rate == pytest.approx(40 / 12.75)  # 2 + 3 + 7, and 0.75 for reduction and update
    assert second.strong_rate == pytest.approx(40 / 9.752)
    assert second.strong_efficiency == pytest.approx(12.75 / 9.752 / 2)
    assert second.weak_rate == pytest.approx(80 / 14.752)
    assert worth(found).nodes == 2
    text = list(lines(findings(), wanted, found))
    assert "  ranks x threads  nodes   n  predicted  measured  deviation" in text
    assert ["2", "x", "4", "1", "40", "3", "3", "+10", "%"] in [line.split() for line in text]  # 14 s / 12.75 s
    assert any(line.startswith("bound     on 1 to 4 nodes: forward and backward pass") for line in text)
    assert any("mpirun -n 4 distbp train --threads 4" in line for line in text)
    assert any("which was not measured" in line for line in lines(findings(), Wanted(4, latency=2, bandwidth=1), found))


def test_one_node_says_nothing_about_more() -> None:
    alone = findings(link=None, nodes=1)
    found = rows(alone, Wanted(nodes=4))
    assert [row.nodes for row in found] == [1]
    assert any("cannot be predicted from one" in line for line in lines(alone, Wanted(nodes=4), found))
    given = rows(alone, Wanted(nodes=4, latency=1.0, bandwidth=10.0))
    assert [row.nodes for row in given] == [1, 2, 4]


@pytest.mark.slow
def test_the_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", exc_type=ImportError)
    out = tmp_path / "bench.png"
    chart.check_chart(out, [], overwrite=False)
    chart.draw(out, findings(), rows(findings(), Wanted(nodes=4)), lambda text: None, overwrite=False)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(RunError, match="exists already"):
        chart.check_chart(out, [], overwrite=False)
    with pytest.raises(UsageError, match=r"ends in \.png"):
        chart.check_chart(tmp_path / "bench.pdf", [], overwrite=False)
    monkeypatch.setattr(chart.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "distbp\[plot\]"'):
        chart.check_chart(out, [], overwrite=True)


def quick(comm: Communicator, seconds: float = 0.05, pulse: Any = lambda phase: None, **options: Any) -> Findings:
    config = merge({"hidden": [6], "batch_size": 8, "threads": 1, **options}, "test")
    return bench(comm, config, Wanted(4, seconds, 5, 3), lambda text: None, pulse)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"reproducible": True, "grain": 2}, {"loss": "mse", "optimizer": "sgd"}])
@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (2, 1), (5, 2), (3, 3)])
def test_ranks_on_nodes(ranks: int, nodes: int, options: dict[str, Any]) -> None:
    everywhere = run_threads(ranks, lambda comm: quick(comm, **options), nodes_of(ranks, nodes))
    first, each = everywhere[0], min(map(len, nodes_of(ranks, nodes)))
    assert all(found == first for found in everywhere)
    assert first.nodes == nodes
    assert [one.node.ranks for one in first.measured] == halves(each)
    for one in first.measured:
        assert [(whole.nodes, whole.n) for whole in one.wholes] == [(1, 8), (nodes, 8), (nodes, 8 * nodes)][
            : 2 * nodes - 1
        ]
        assert (one.link is None) == (nodes == 1)
        assert {samples_of_a_rank(8, first.grain, N * one.node.ranks) for N in (1, 2, 4, nodes)} <= set(one.node.passes)
        passes = [one.node.passes[m].gamma for m in sorted(one.node.passes)]
        assert passes == sorted(passes)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"wire": "bfloat16"}, {"wire": "float16", "overlap": False}])
def test_what_is_exchanged_under_the_backward_pass(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of the buckets is never hidden, the first is there after a part of the products."""
    monkeypatch.setattr("distbp.engine.step_memory.BUCKET_BYTES", 4)
    config = merge({"hidden": [60, 70], "batch_size": 8, "threads": 1, "optimizer": "sgd", **options}, "test")
    wanted = Wanted(4, 0.05, 80, 40)

    def on_rank(comm: Communicator) -> Findings:
        return bench(comm, config, wanted, lambda text: None)

    first, *others = run_threads(4, on_rank, nodes_of(4, 2))
    assert all(found == first for found in others)
    for one in first.measured:
        node = one.node
        assert one.link is not None
        assert one.link.in_parts
        if config.overlap:
            assert 0.0 < node.first < 1.0
            assert 0.0 < node.last < 1.0
        else:
            assert (node.first, node.last, one.link.busy) == (1.0, 1.0, 0.0)


def test_the_part_of_the_products_before_a_layer() -> None:
    network = Network.of([80, 60, 70, 40], "relu", "identity", "mse")
    products = 40 * 70 + (70 * 60 + 40 * 70) + (60 * 80 + 70 * 60)  # dW^4; dW^3 and d^3; dW^2 and d^2
    assert first_part(network, 4) == 40 * 70 / products
    assert first_part(network, 3) == (40 * 70 + 70 * 60 + 40 * 70) / products
    assert first_part(network, 2) == 1.0


def test_one_rank_is_asked_to_stop() -> None:
    """All of them end, whether they measure or rest."""
    for who in range(2):

        def on_rank(comm: Communicator, who: int = who) -> None:
            def pulse(phase: str) -> None:
                if comm.rank == who:
                    raise Stopped("stopped on request")

            quick(comm, pulse=pulse)

        with pytest.raises(Stopped) as stopped:
            run_threads(2, on_rank)
        assert stopped.value.agreed


@pytest.mark.parametrize(
    ("wanted", "options", "words"),
    [
        (Wanted(inputs=5, outputs=3), {"batch_size": "all"}, "--batch-size all needs DATA"),
        (Wanted(inputs=5, outputs=1), {}, "--outputs 1"),
        (Wanted(inputs=5, outputs=3), {"data": ["d.h5"]}, "without DATA"),
    ],
)
def test_wrong_usage(wanted: Wanted, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bench(OneProcess(), merge(options, "test"), wanted, print)


def test_ranks_with_other_options() -> None:
    with pytest.raises(UsageError, match=r"--seconds is 0\.02, and on rank 0 0\.01"):
        run_threads(2, lambda comm: quick(comm, 0.01 * (comm.rank + 1)))


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_one_output(loss: str) -> None:
    config = merge({"hidden": [6], "batch_size": 8, "threads": 1, "loss": loss}, "test")
    found = bench(OneProcess(), config, Wanted(2, 0.02, 5, 1), lambda text: None)
    assert found.network.sizes == (0, 5, 6, 1)


def test_columns_and_classes_are_those_of_the_data(data_file: str) -> None:
    config = merge({"data": [data_file], "hidden": [6], "batch_size": "all", "threads": 1}, "test")
    found = bench(OneProcess(), config, Wanted(2, 0.02), lambda text: None)
    assert (found.network.sizes, found.n) == ((0, 4, 6, 3), 23)
    with pytest.raises(DataError, match="no split 'tr'"):
        bench(OneProcess(), replace(config, split="tr"), Wanted(), print)


def test_times_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower quartile; each thing as often as its part of the time allows, and three times at least."""
    now, calls = 0.0, []
    monkeypatch.setattr(rounds, "perf_counter", lambda: now)

    def timer(name: str, seconds: float, count: int) -> dict[str, float]:
        nonlocal now
        now += seconds * count
        calls.append((name, count))
        return {"a": 1.0 * len(calls), "b": seconds}

    turns = rounds.Rounds(OneProcess(), 11.0, lambda phase: None, lambda: None)
    turns.add("short", partial(timer, "short", 0.001))
    turns.add("long", partial(timer, "long", 6.0))
    turns.run()
    short = [count for name, count in calls if name == "short"]
    assert short[:9] == [1, 1, 2, 4, 8, 16, 32, 64, 128]  # a quarter of 1/22 of 11 s, after a first time
    assert short[9:] == [500] * 3
    assert [count for name, count in calls if name == "long"] == [1] * (2 + 3)
    assert turns.seconds("long", "b") == 6.0
    # "a" of the rounds: calls 12, 14, 16, or 13, 15, 17
    assert turns.seconds("short", "a") == pytest.approx(13.0)
    assert turns.seconds("long") == pytest.approx(14.0 + 6.0)


def test_a_part_of_the_threads_knows_its_nodes() -> None:
    def on_rank(comm: Communicator) -> tuple[list[int], list[int]]:
        part = comm.split(comm.rank % 2)
        return part.node_ranks(), part.split(0).node_ranks()

    found = run_threads(5, on_rank, [[0, 1, 2], [3, 4]])
    assert found == [(ranks, ranks) for ranks in ([0, 1], [0], [0, 1], [1], [2])]


def test_the_command(runner: Runner, data_file: str) -> None:
    result = runner.afresh("bench", data_file, *QUICK, "--link-latency", "2", "--link-bandwidth", "9")
    assert result.returncode == 0, result.stderr
    for words in ("4-6-3", "GFLOP/s", "deviation", "2 µs and 9 Gbit/s, which was not measured", "advice    1 x 1"):
        assert words in result.stdout
    assert result.stderr == "measuring 1 x 1 (ranks x threads)\n"
    assert [path.name for path in runner.directory.iterdir()] == ["data.h5"]


@pytest.mark.slow
def test_the_command_draws(runner: Runner) -> None:
    pytest.importorskip("matplotlib", exc_type=ImportError)
    result = runner.distbp("bench", *WITHOUT_DATA, *QUICK, "--out", "b.png")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("chart     b.png\n")
    assert [path.name for path in runner.directory.iterdir()] == ["b.png"]
    check_error(runner.distbp("bench", *WITHOUT_DATA, *QUICK, "--out", "b.png"), 1, "exists already", "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--inputs", "5"), 2, "--inputs and --outputs belong together"),
        (("--link-latency", "5"), 2, "--link-latency and --link-bandwidth belong together"),
        (("--seconds", "0"), 2, "--seconds"),
        (("--seconds", "1e308"), 2, "1e+308 is not in the range"),
        (("--nodes", "1" + "0" * 400), 2, "--nodes"),
        (("--link-latency", "1e308", "--link-bandwidth", "1"), 2, "--link-latency"),
        (("none.h5",), 1, "none.h5: no such file"),
        ((*WITHOUT_DATA, "--hidden", "1000000,1000000"), 1, "not enough memory"),
    ],
)
def test_errors(runner: Runner, arguments: tuple[str, ...], code: int, words: str) -> None:
    check_error(runner.distbp("bench", *arguments), code, words)
    assert list(runner.directory.iterdir()) == []


def test_a_signal(runner: Runner) -> None:
    process = runner.fork(str(BIN / "distbp"), "bench", *WITHOUT_DATA, "--seconds", "50")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    result = runner.finish(process)
    assert result.returncode == Stopped.exit_code
    assert "Traceback" not in result.stderr
    assert "run the same command again" in result.stderr


@pytest.mark.mpi
def test_real_ranks(runner: Runner) -> None:
    result = runner.distbp("bench", *WITHOUT_DATA, *QUICK, ranks=2)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("distbp ") == 2  # said once: the first line, and the advice
    assert "2 ranks (" in result.stdout
    for words in (["2", "x", "1", "1", "8"], ["1", "x", "1", "1", "8"]):
        assert words in [line.split()[:5] for line in result.stdout.splitlines()]
    check_error(runner.distbp("bench", *WITHOUT_DATA, "--batch-size", "all", ranks=2), 2, "needs DATA")
