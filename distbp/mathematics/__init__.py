"""The mathematics: layers, σ, L, backpropagation, optimizers, batches; on NumPy alone."""
