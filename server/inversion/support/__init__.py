"""Records from which entries of a first layer's update moved, and which of them moved equally, behind any optimizer."""
