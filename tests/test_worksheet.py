"""The eleven exercises of the text, each checked by finite differences, by the slow twin or by hand."""

from dataclasses import replace
from math import cos, exp, sin

import numpy as np
import pytest
import textbook

from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.backprop import Piece, backward, forward, loss_sum, output_error
from distbp.mathematics.losses import mse, mse_nabla_a
from distbp.mathematics.network import Network, Parameters

LAYERS = [3, 4, 2]


@pytest.fixture
def network():
    """A small network: 3 inputs, 4 hidden neurons, 2 outputs."""
    return Network.of(LAYERS, "tanh", "identity", "mse")


@pytest.fixture
def parameters(network):
    parameters = Parameters.zeros(network, np.float64)
    parameters.vector[:] = np.random.default_rng(1).standard_normal(network.parameter_count)
    return parameters


@pytest.fixture
def piece(network):
    """Five samples."""
    rng = np.random.default_rng(2)
    piece = Piece(network, 5, np.float64)
    piece.a[1][:] = rng.standard_normal(piece.a[1].shape)
    piece.y[:] = rng.standard_normal(piece.y.shape)
    return piece


def z_of(network, parameters, piece, l):
    forward(network, parameters, piece)
    return piece.z[l].copy()


@pytest.mark.parametrize("x", [-1.3, 0.0, 0.2, 0.9])
def test_exercise_1_chain_rule_in_one_variable(x):
    """Find df/dx for f = 4 f_1², f_1 = f_2 - 2, f_2 = 5x³ - x + 1."""

    def f_1(x):
        return (5.0 * x**3 - x + 1.0) - 2.0

    by_chain_rule = (8.0 * f_1(x)) * 1.0 * (15.0 * x**2 - 1.0)  # df/df_1 · df_1/df_2 · df_2/dx
    assert by_chain_rule == pytest.approx(textbook.derivative(lambda x: 4.0 * f_1(x) ** 2, x), rel=1e-8)


@pytest.mark.parametrize(("u", "v"), [(0.3, -0.7), (1.1, 0.4), (-2.0, 1.5)])
def test_exercise_2_chain_rule_in_two_variables(u, v):
    """Find ∂f/∂u and ∂f/∂v for f = 2x³ + y with x = sin u + cos v and y = e^{uv}."""

    def f(u, v):
        return 2.0 * (sin(u) + cos(v)) ** 3 + exp(u * v)

    df_dx, df_dy = 6.0 * (sin(u) + cos(v)) ** 2, 1.0
    df_du = df_dx * cos(u) + df_dy * v * exp(u * v)
    df_dv = df_dx * -sin(v) + df_dy * u * exp(u * v)
    assert df_du == pytest.approx(textbook.derivative(lambda u: f(u, v), u), rel=1e-8)
    assert df_dv == pytest.approx(textbook.derivative(lambda v: f(u, v), v), rel=1e-8)


@pytest.mark.parametrize(("j", "k"), [(0, 0), (3, 0), (1, 2)])
def test_exercise_3_label_of_a_weight(network, parameters, piece, j, k):
    """Label the weights: w_jk^l leads from neuron k of layer l-1 to neuron j of layer l."""
    before = z_of(network, parameters, piece, 2)
    parameters.W[2][j, k] += 0.5
    change = z_of(network, parameters, piece, 2) - before
    np.testing.assert_allclose(change[j], 0.5 * piece.a[1][k], rtol=1e-13, atol=1e-14)
    assert not np.delete(change, j, axis=0).any()


def test_exercise_4_matrices_of_a_network(network, parameters):
    """Write down W^2, b^2, W^3, b^3 of the network with 3, 4 and 2 neurons."""
    assert network.F == 3
    assert [W.shape for W in parameters.W[2:]] == [(4, 3), (2, 4)]
    assert [b.shape for b in parameters.b[2:]] == [(4,), (2,)]
    assert parameters.W[:2] == parameters.b[:2] == [None, None]  # the input layer has none
    assert len(parameters.vector) == 4 * 3 + 4 + 2 * 4 + 2


def test_exercise_5_matrix_form_is_index_form(network, parameters, piece):
    """Show that z^l = W^l a^{l-1} + b^l says z_j^l = Σ_k w_jk^l a_k^{l-1} + b_j^l for every j."""
    forward(network, parameters, piece)
    w = [None, None, *(W.tolist() for W in parameters.W[2:])]
    b = [None, None, *(b.tolist() for b in parameters.b[2:])]
    for i in range(piece.m):
        z, a = textbook.forward(w, b, piece.a[1][:, i].tolist(), "tanh", "identity")
        for l in (2, 3):
            np.testing.assert_allclose(piece.z[l][:, i], z[l], rtol=1e-12)
            np.testing.assert_allclose(piece.a[l][:, i], a[l], rtol=1e-12)


@pytest.mark.parametrize("l", [2, 3])
def test_exercise_6_derivatives_of_z(network, parameters, piece, l):
    """Find ∂z_j^l/∂w_jk^l = a_k^{l-1} and ∂z_j^l/∂b_j^l = 1; a weight or bias of another neuron has no part in z_j."""
    z = z_of(network, parameters, piece, l)
    a_below = piece.a[l - 1].copy()
    h = 0.25  # z is linear in w and b, so any step will do
    for j, k in np.ndindex(parameters.W[l].shape):
        parameters.W[l][j, k] += h
        dz = (z_of(network, parameters, piece, l) - z) / h
        parameters.W[l][j, k] -= h
        expected = np.zeros_like(z)
        expected[j] = a_below[k]
        np.testing.assert_allclose(dz, expected, rtol=0, atol=1e-13)
    for j in range(len(parameters.b[l])):
        parameters.b[l][j] += h
        dz = (z_of(network, parameters, piece, l) - z) / h
        parameters.b[l][j] -= h
        expected = np.zeros_like(z)
        expected[j] = 1.0
        np.testing.assert_allclose(dz, expected, rtol=0, atol=1e-13)


def test_exercise_7_hadamard_product():
    """Compute (0, 1, 5, 2) ⊙ (3, 2, 1, 9), here as d^F = ∇_a L ⊙ σ'(z^F)."""

    def give(*numbers):
        return lambda *arguments: np.copyto(arguments[-1][:, 0], numbers)

    network = Network.of([1, 4], "identity", "identity", "mse")
    network = replace(
        network,
        loss=replace(network.loss, nabla_a=give(0, 1, 5, 2)),
        output_activation=replace(network.output_activation, sigma_prime=give(3, 2, 1, 9)),
    )
    piece = Piece(network, 1, np.float64)
    output_error(network, piece)
    assert piece.d[2][:, 0].tolist() == [0, 2, 5, 18]


def test_exercise_8_gradient_of_the_total_loss(network, parameters, piece):
    """Find ∂L_T/∂w from the ∂L_i/∂w: since L_T = (1/n) Σ L_i, it is (1/n) Σ ∂L_i/∂w."""
    n = piece.m
    gradient_i, mean = Parameters.zeros(network, np.float64), np.zeros(network.parameter_count)
    one = Piece(network, 1, np.float64)
    for i in range(n):
        one.a[1][:, 0], one.y[:, 0] = piece.a[1][:, i], piece.y[:, i]
        forward(network, parameters, one)
        backward(network, parameters, one, gradient_i)
        mean += gradient_i.vector / n

    def total_loss(value, p):
        changed = parameters.vector.copy()
        changed[p] = value
        forward(network, Parameters(network, changed), piece)
        return loss_sum(network, piece) / n

    for p, w in enumerate(parameters.vector):
        numeric = textbook.derivative(lambda value, p=p: total_loss(value, p), w)
        assert mean[p] == pytest.approx(numeric, rel=1e-8, abs=1e-10)


def test_exercise_9_derivative_of_sigmoid():
    """Show that σ'(z) = σ(z) (1 - σ(z)) for σ(z) = 1 / (1 + e^-z)."""
    z = np.linspace(-6.0, 6.0, 25)
    a, prime = np.empty_like(z), np.empty_like(z)
    ACTIVATIONS["sigmoid"].sigma(z, a)
    np.testing.assert_allclose(a, 1.0 / (1.0 + np.exp(-z)), rtol=1e-13)

    numeric = textbook.derivative(lambda h: 1.0 / (1.0 + np.exp(-(z + h))), 0.0)
    ACTIVATIONS["sigmoid"].sigma_prime(z, a, prime)
    np.testing.assert_allclose(prime, numeric, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exercise_10_derivative_of_relu(dtype):
    """Find σ' for σ(z) = max(z, 0): 0 for z < 0, 1 for z > 0, and at 0 the derivative from the left, 0."""
    z = np.array([-2.0, -1e-30, -0.0, 0.0, 1e-30, 2.0], dtype)
    a, prime = np.empty_like(z), np.empty_like(z)
    ACTIVATIONS["relu"].sigma(z, a)
    ACTIVATIONS["relu"].sigma_prime(z, a, prime)
    assert prime.tolist() == [0, 0, 0, 0, 1, 1]


def test_exercise_11_nabla_a_of_mean_squared_error():
    """Find ∇_a L for L = (1/n_F) Σ_j (a_j - y_j)²: its elements are (2/n_F) (a_j - y_j)."""
    rng = np.random.default_rng(3)
    y, a = rng.standard_normal((2, 4, 1))
    nabla_a = np.empty_like(a)
    mse_nabla_a(y, a, nabla_a)
    for j in range(4):
        e_j = np.eye(4)[:, [j]]
        numeric = textbook.derivative(lambda h, e_j=e_j: mse(y, a, a + h * e_j, np.empty_like(a)), 0.0)
        assert nabla_a[j, 0] == pytest.approx(numeric, rel=1e-9)
        assert nabla_a[j, 0] == pytest.approx(2.0 / 4.0 * (a[j, 0] - y[j, 0]), rel=1e-14)
