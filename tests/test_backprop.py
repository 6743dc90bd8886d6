"""The gradient against finite differences, the slow twin and PyTorch."""

import tracemalloc
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import textbook

from distbp.mathematics.activations import ACTIVATIONS
from distbp.mathematics.backprop import Piece, backward, forward, loss_sum, output_error, piece_samples
from distbp.mathematics.network import Network, Parameters

SIGMAS = [name for name in ACTIVATIONS if name != "softmax"]
KINKED = {"relu", "leaky_relu"}
HEADS = [("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid"), *(("mse", name) for name in SIGMAS)]
LAYERS = {2: [5, 3], 3: [5, 6, 3], 4: [5, 6, 4, 3]}
# A network with F = 2 has no hidden layer: one σ stands for all.
CASES = [
    pytest.param(hidden, loss, output, F, id=f"{hidden}-{loss}-{output}-F{F}")
    for F, hidden, (loss, output) in product(LAYERS, SIGMAS, HEADS)
    if F > 2 or hidden == "sigmoid"
]
N = 7


class Problem:
    """A network with random parameters, biases too, and N random samples with targets that suit the loss."""

    def __init__(self, network, seed=0, n=N):
        rng = np.random.default_rng(seed)
        self.network, self.n, n_F = network, n, network.sizes[-1]
        self.w = rng.standard_normal(network.parameter_count) * 0.7
        self.x = rng.standard_normal((n, network.sizes[1]))
        if network.loss.name == "cross_entropy":
            self.y = np.eye(n_F)[rng.integers(n_F, size=n)]
        elif network.loss.name == "binary_cross_entropy":
            self.y = rng.integers(2, size=(n, n_F)).astype(float)
        else:
            self.y = rng.standard_normal((n, n_F))

    def piece(self, rows=slice(None), dtype=np.float64):
        x, y = self.x[rows], self.y[rows]
        piece = Piece(self.network, len(x), dtype)
        fill(piece, x, y)
        return piece

    def parameters(self, dtype=np.float64):
        return Parameters(self.network, self.w.astype(dtype))

    def sums(self, rows=slice(None), dtype=np.float64):
        """Σ_i L_i and Σ_i ∂L_i/∂w over the given samples."""
        return sums(self.network, self.parameters(dtype), self.piece(rows, dtype))


def fill(piece, x, y):
    piece.a[1][:], piece.y[:] = x.T, y.T


def sums(network, parameters, piece):
    gradient = Parameters(network, np.full_like(parameters.vector, np.nan))
    forward(network, parameters, piece)
    loss = loss_sum(network, piece)
    backward(network, parameters, piece, gradient)
    return loss, gradient.vector


def problem(hidden, loss, output, F, seed=0):
    return Problem(Network.of(LAYERS[F], hidden, output, loss), seed)


def worst_relative_error(problem, directions=3):
    """Of gradient · v against the derivative of ε ↦ Σ L_i(w + ε v), for random unit directions v."""
    network, piece = problem.network, problem.piece()
    _, gradient = problem.sums()
    kinked = {network.sigma(l).name for l in range(2, network.F + 1)} & KINKED
    h = 1e-4 if kinked else 3e-3
    rng = np.random.default_rng(99)
    worst = 0.0
    for _ in range(directions):
        v = rng.standard_normal(len(problem.w))
        v /= np.linalg.norm(v)
        signs = set()

        def loss_at(epsilon, v=v, signs=signs):
            forward(network, Parameters(network, problem.w + epsilon * v), piece)
            signs.add(b"".join(np.signbit(z).tobytes() for z in piece.z[2:]))
            return loss_sum(network, piece)

        numeric = textbook.derivative(loss_at, 0.0, h)
        assert len(signs) == 1 or not kinked, "a kink was crossed: finite differences mean nothing, take another seed"
        worst = max(worst, abs(gradient @ v - numeric) / abs(numeric))
    return worst


@pytest.mark.parametrize(("hidden", "loss", "output", "F"), CASES)
def test_gradient_is_what_finite_differences_say(hidden, loss, output, F):
    assert worst_relative_error(problem(hidden, loss, output, F)) < 1e-7


@pytest.mark.parametrize("name", SIGMAS)
@pytest.mark.parametrize("where", ["activation", "output_activation"])
def test_finite_differences_catch_a_derivative_that_is_off_by_a_thousandth(name, where):
    right = problem(name, "mse", name, 3)
    sigma_prime = ACTIVATIONS[name].sigma_prime

    def slightly_wrong(z, a, out):
        sigma_prime(z, a, out)
        out *= 1.001

    wrong = replace(ACTIVATIONS[name], sigma_prime=slightly_wrong)
    wrong_problem = Problem(replace(right.network, **{where: wrong}))
    assert worst_relative_error(right) < 1e-7 < 1e-5 < worst_relative_error(wrong_problem)


@pytest.mark.parametrize(("hidden", "loss", "output", "F"), CASES)
def test_loss_and_gradient_equal_the_textbook(hidden, loss, output, F):
    p = problem(hidden, loss, output, F)
    parameters = p.parameters()
    w = [None, None, *(W.tolist() for W in parameters.W[2:])]
    b = [None, None, *(b.tolist() for b in parameters.b[2:])]
    L_T, dw, db = textbook.total_loss_and_gradient(w, b, p.x.tolist(), p.y.tolist(), hidden, output, loss)
    total, gradient = p.sums()
    gradient = Parameters(p.network, gradient / p.n)
    scale = np.abs(gradient.vector).max()
    assert total / p.n == pytest.approx(L_T, rel=1e-12)
    for l in range(2, F + 1):
        np.testing.assert_allclose(gradient.W[l], dw[l], rtol=1e-12, atol=1e-12 * scale)
        np.testing.assert_allclose(gradient.b[l], db[l], rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("name", SIGMAS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 2e-14), (np.float32, 1e-5)])
def test_sigma_and_sigma_prime_equal_the_textbook_from_minus_to_plus_1000(name, dtype, tolerance):
    moderate = np.linspace(-12.0, 12.0, 97)
    z = np.concatenate([[-1000.0, -100.0, -30.0], moderate, [30.0, 100.0, 1000.0]]).astype(dtype)
    a, prime = np.full((2, len(z)), np.nan, dtype)
    ACTIVATIONS[name].sigma(z, a)
    sigma = [textbook.SIGMA[name](float(z_j)) for z_j in z]
    sigma_prime = [textbook.SIGMA_PRIME[name](float(z_j)) for z_j in z]
    np.testing.assert_allclose(a, sigma, rtol=tolerance, atol=tolerance)
    ACTIVATIONS[name].sigma_prime(z, a, prime)  # may overwrite z
    np.testing.assert_allclose(prime, sigma_prime, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("hidden", "loss", "output", "F"), CASES)
def test_float32_is_close_to_float64(hidden, loss, output, F):
    p = problem(hidden, loss, output, F)
    loss_64, gradient_64 = p.sums()
    loss_32, gradient_32 = p.sums(dtype=np.float32)
    assert gradient_32.dtype == np.float32
    assert loss_32 == pytest.approx(loss_64, rel=1e-5)
    assert np.linalg.norm(gradient_32 - gradient_64) < 1e-5 * np.linalg.norm(gradient_64)


@pytest.mark.parametrize(("loss", "output"), [("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid")])
@pytest.mark.parametrize("magnitude", [3.0, 10.0])
def test_float32_loss_of_confident_right_answers_is_accurate_to_the_rounding_of_the_logits(loss, output, magnitude):
    network = Network.of([3, 3], "identity", output, loss)
    y = np.eye(3)
    losses = []
    for dtype in (np.float64, np.float32):
        piece = Piece(network, 3, dtype)
        fill(piece, (2.0 * y - 1.0) * magnitude, y)
        parameters = Parameters.zeros(network, dtype)
        parameters.W[2][...] = np.eye(3)
        losses.append(sums(network, parameters, piece)[0])
    assert losses[1] >= 0.0
    assert losses[1] == pytest.approx(losses[0], abs=6 * magnitude * 2.0**-23)


@pytest.mark.parametrize(("loss", "output"), HEADS)
@pytest.mark.parametrize("cuts", [[], [1], [6], [0, 3], [2, 2, 5], [1, 2, 3, 4, 5, 6], [7]])
def test_sum_over_any_pieces_is_the_whole(loss, output, cuts):
    p = problem("gelu", loss, output, 3)
    whole_loss, whole_gradient = p.sums()
    parts = [p.sums(slice(start, end)) for start, end in zip([0, *cuts], [*cuts, N], strict=True)]
    assert sum(part[0] for part in parts) == pytest.approx(whole_loss, rel=1e-13)
    total = np.sum([part[1] for part in parts], axis=0)
    np.testing.assert_allclose(total, whole_gradient, rtol=1e-12, atol=1e-13 * np.abs(whole_gradient).max())


@pytest.mark.parametrize("m", [N, 3, 1])
@pytest.mark.parametrize(("loss", "output"), HEADS)
def test_first_samples_of_a_used_piece_give_what_a_new_piece_gives(loss, output, m):
    p = problem("tanh", loss, output, 4)
    used = p.piece()
    sums(p.network, p.parameters(), used)
    first = used.part(0, m)
    fill(first, p.x[-m:], p.y[-m:])
    assert all(np.shares_memory(first.a[l], used.a[l]) for l in range(1, 5))
    expected = p.sums(slice(N - m, N))
    actual = sums(p.network, p.parameters(), first)
    assert actual[0] == expected[0]
    np.testing.assert_array_equal(actual[1], expected[1])


def test_a_sample_is_a_contiguous_row_and_the_room_of_a_piece_is_bounded():
    network = Network.of([784, 20000, 10], "relu", "softmax", "cross_entropy")
    m = piece_samples(network, np.float32)
    assert 1 <= m < 1024
    assert m == 64 * 2**20 // (4 * (3 * (784 + 20000 + 10) + 20000))
    assert piece_samples(Network.of([4, 5, 3], "relu", "softmax", "cross_entropy"), np.float32) == 1024
    piece = Piece(network, 2, np.float32)
    assert all(array.T.flags.c_contiguous for array in (*piece.a[1:3], piece.z[2], piece.d[2]))
    assert all(array.shape == (10, 2) and array.strides == (64, 4) for array in (piece.y, piece.a[3], piece.d[3]))
    regression = Piece(Network.of([4, 5, 3], "relu", "identity", "mse"), 2, np.float32)
    assert all(array.T.flags.c_contiguous for array in (regression.y, regression.a[3], regression.d[3]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("loss", "output", "z", "y", "expected", "d"),
    [
        ("cross_entropy", "softmax", [1000, -1000], [0, 1], 2000, [1, -1]),
        ("cross_entropy", "softmax", [1000, -1000], [1, 0], 0, [0, 0]),
        ("cross_entropy", "softmax", [-1000, -1000], [1, 0], np.log(2), [-0.5, 0.5]),
        ("binary_cross_entropy", "sigmoid", [1000, -1000], [0, 1], 1000, [0.5, -0.5]),
        ("binary_cross_entropy", "sigmoid", [1000, -1000], [1, 0], 0, [0, 0]),
        ("binary_cross_entropy", "sigmoid", [1000, -1000], [0, 0], 500, [0.5, 0]),
    ],
)
def test_extreme_logits(dtype, loss, output, z, y, expected, d):
    network = Network.of([2, 2], "identity", output, loss)
    parameters = Parameters.zeros(network, dtype)
    parameters.W[2][...] = np.eye(2)
    piece = Piece(network, 1, dtype)
    fill(piece, np.array([z]), np.array([y]))
    value, gradient = sums(network, parameters, piece)
    assert value == pytest.approx(expected, rel=1e-4 if dtype == np.float32 else 1e-12)
    np.testing.assert_allclose(piece.d[2][:, 0], d, atol=1e-6)
    np.testing.assert_allclose(Parameters(network, gradient).W[2], np.outer(d, z), atol=1e-3)


@pytest.mark.parametrize(("loss", "output"), HEADS[:2])
def test_shortcut_of_the_output_error_is_the_chain_rule(loss, output):
    p = problem("tanh", loss, output, 3)
    piece = p.piece()
    forward(p.network, p.parameters(), piece)
    z, y = piece.z[3].T.tolist(), p.y.tolist()
    output_error(p.network, piece)
    for i in range(p.n):
        numeric = []
        for j in range(3):

            def loss_at(z_j, i=i, j=j):
                changed = [*z[i][:j], z_j, *z[i][j + 1 :]]
                a = textbook.softmax(changed) if output == "softmax" else list(map(textbook.logistic, changed))
                return textbook.loss(loss, y[i], a)

            numeric.append(textbook.derivative(loss_at, z[i][j]))
        np.testing.assert_allclose(piece.d[3][:, i], numeric, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("hidden", "loss", "output"),
    [(hidden, "cross_entropy", "softmax") for hidden in SIGMAS]
    + [("relu", "binary_cross_entropy", "sigmoid")]
    + [("relu", "mse", output) for output in SIGMAS],
)
def test_a_step_allocates_nothing(hidden, loss, output, dtype):
    """Nothing but the buffers of NumPy's loops, 8192 numbers whatever the size; z^2 alone has 128 × 256 = 32768."""
    p = Problem(Network.of([64, 128, 10], hidden, output, loss), n=256)
    parameters, piece = p.parameters(dtype), p.piece(dtype=dtype)
    gradient = Parameters.zeros(p.network, dtype)

    def step():
        forward(p.network, parameters, piece)
        backward(p.network, parameters, piece, gradient)

    step()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 12288 * np.dtype(dtype).itemsize


def torch_sums(p, hidden, loss, output):
    """Σ_i L_i and its gradient by PyTorch's autograd."""
    torch = pytest.importorskip("torch")
    functions = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": torch.nn.functional.leaky_relu,
        "gelu": lambda z: torch.nn.functional.gelu(z, approximate="tanh"),
        "softplus": torch.nn.functional.softplus,
        "identity": lambda z: z,
    }
    parameters, F = p.parameters(), p.network.F
    leaves = []
    a = torch.tensor(p.x)
    for l in range(2, F + 1):
        W, b = (torch.tensor(array, requires_grad=True) for array in (parameters.W[l], parameters.b[l]))
        leaves += [W, b]
        z = a @ W.T + b
        a = functions[hidden](z) if l < F else z
    y = torch.tensor(p.y)
    if loss == "cross_entropy":
        mean = torch.nn.functional.cross_entropy(z, y.argmax(dim=1))
    elif loss == "binary_cross_entropy":
        mean = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
    else:
        mean = torch.nn.functional.mse_loss(functions[output](z), y)
    mean.backward()
    return p.n * mean.item(), p.n * np.concatenate([leaf.grad.numpy().ravel() for leaf in leaves])


@pytest.mark.heavy
@pytest.mark.parametrize("hidden", SIGMAS)
@pytest.mark.parametrize(("loss", "output"), HEADS)
def test_loss_and_gradient_equal_pytorch(hidden, loss, output):
    p = Problem(Network.of([20, 30, 25, 10], hidden, output, loss), seed=4, n=40)
    p.w *= 0.4
    total, gradient = p.sums()
    torch_total, torch_gradient = torch_sums(p, hidden, loss, output)
    assert total == pytest.approx(torch_total, rel=1e-10)
    np.testing.assert_allclose(gradient, torch_gradient, rtol=1e-10, atol=1e-10 * np.abs(gradient).max())
