"""Records from which entries of a first layer's update moved, and which of them moved alike, behind any optimizer."""
