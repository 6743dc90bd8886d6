"""∂L_B/∂w of a batch and L_T of a split, over all ranks."""
