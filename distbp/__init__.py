"""distbp: data-parallel training of feed-forward neural networks on CPU clusters, with exact gradients."""

__version__ = "0.1.0"
