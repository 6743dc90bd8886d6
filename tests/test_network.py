"""Parameters as views into one vector, and their first values."""

import numpy as np
import pytest

from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.arena import ALIGNED
from distbp.mathematics.losses import LOSSES
from distbp.mathematics.network import Network, Parameters, initialize

LAYERS = [5, 7, 3, 2]


def network_of(layers, activation="tanh", output_activation="identity"):
    return Network.of(layers, activation, output_activation, "mse")


def initialized(network, seed, dtype=np.float64, rule="auto"):
    parameters = Parameters.zeros(network, dtype)
    parameters.vector.fill(np.nan)  # whatever was there before has no part in it
    initialize(parameters, network, seed, rule)
    return parameters


def test_network_of_names():
    network = Network.of(LAYERS, "relu", "softmax", "cross_entropy")
    assert network.sizes == (0, 5, 7, 3, 2)  # sizes[l] = n_l
    assert network.F == 4
    assert [network.sigma(l).name for l in (2, 3, 4)] == ["relu", "relu", "softmax"]
    assert network.loss is LOSSES["cross_entropy"]


@pytest.mark.parametrize(
    ("layers", "count"), [([5, 7, 3, 2], 35 + 7 + 21 + 3 + 6 + 2), ([4, 1], 5), ([784, 128, 10], 101770)]
)
def test_parameter_count(layers, count):
    network = network_of(layers)
    assert network.parameter_count == count
    assert len(Parameters.zeros(network, np.float32).vector) == count


def test_parameters_are_views_that_tile_the_vector():
    network = network_of(LAYERS)
    parameters = Parameters(network, np.arange(network.parameter_count, dtype=np.float64))
    tiles = []
    for l in (2, 3, 4):
        assert parameters.W[l].shape == (network.sizes[l], network.sizes[l - 1])
        assert parameters.b[l].shape == (network.sizes[l],)
        tiles += [parameters.W[l].ravel(), parameters.b[l]]
    np.testing.assert_array_equal(np.concatenate(tiles), parameters.vector)  # W^2, b^2, W^3, …, no gap, by rows

    parameters.W[3][1, 2] = -1.0
    parameters.b[4][0] = -2.0
    assert parameters.vector[35 + 7 + 1 * 7 + 2] == -1.0
    assert parameters.vector[-2] == -2.0
    parameters.vector[:] = 8.0
    assert all((array == 8.0).all() for array in (*parameters.W[2:], *parameters.b[2:]))


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_vector_of_another_length_is_refused(difference):
    network = network_of(LAYERS)
    with pytest.raises((AssertionError, ValueError)):
        Parameters(network, np.zeros(network.parameter_count + difference))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 1000, 100_001])
def test_aligned_zeros_start_at_a_cache_line(dtype, count):
    vectors = [ALIGNED.take(count, dtype) for _ in range(5)]
    assert all(vector.ctypes.data % 64 == 0 for vector in vectors if count)
    assert all(vector.shape == (count,) and vector.dtype == dtype and not vector.any() for vector in vectors)


@pytest.mark.parametrize("rule", ["auto", "glorot", "he"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_first_values_depend_on_the_seed_alone(rule, activation):
    network = network_of(LAYERS, activation)
    first = initialized(network, 3, rule=rule).vector
    np.random.seed(0)
    np.testing.assert_array_equal(first, initialized(network, 3, rule=rule).vector)
    other = initialized(network, 4, rule=rule)
    weights = [first[: 5 * 7], other.vector[: 5 * 7]]
    assert not np.isin(*weights).any()


@pytest.mark.parametrize("rule", ["glorot", "he"])
def test_first_values_are_the_same_in_float32_up_to_rounding(rule):
    network = network_of([50, 40, 30])
    double, single = (initialized(network, 9, dtype, rule).vector for dtype in (np.float64, np.float32))
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_biases_are_zero_and_layers_differ():
    parameters = initialized(network_of([6, 6, 6]), 0)
    assert not any(b.any() for b in parameters.b[2:])
    assert np.isfinite(parameters.vector).all()
    assert not np.isin(parameters.W[2], parameters.W[3]).any()


def test_glorot_fills_its_bounds():
    network = network_of([200, 300, 100])
    parameters = initialized(network, 1, rule="glorot")
    for W, bound in ((parameters.W[2], np.sqrt(6 / 500)), (parameters.W[3], np.sqrt(6 / 400))):
        assert 0.999 * bound < W.max() <= bound
        assert -0.999 * bound > W.min() >= -bound
        assert abs(W.mean()) < 0.01 * bound
        assert W.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_he_has_its_spread():
    network = network_of([200, 300, 100])
    parameters = initialized(network, 1, rule="he")
    for W, spread in ((parameters.W[2], np.sqrt(2 / 200)), (parameters.W[3], np.sqrt(2 / 300))):
        assert W.std() == pytest.approx(spread, rel=0.02)
        assert abs(W.mean()) < 0.02 * spread
        assert np.abs(W).max() > 3.5 * spread  # a normal distribution has tails
        assert np.mean(np.abs(W) < spread) == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "softmax"])
def test_auto_takes_the_rule_that_suits_each_layers_activation(name):
    rule = "he" if name in {"relu", "leaky_relu", "gelu", "softplus"} else "glorot"
    network = network_of([20, 30, 10], name, "identity")
    auto = initialized(network, 5)
    np.testing.assert_array_equal(auto.W[2], initialized(network, 5, rule=rule).W[2])
    bound = np.sqrt(6 / 40)  # the output layer is linear: glorot
    assert 0.9 * bound < np.abs(auto.W[3]).max() <= bound
