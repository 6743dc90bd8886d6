"""`distbp predict`, and what it shares with `distbp evaluate`: a trained network and a split to use it on."""
