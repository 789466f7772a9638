"""Records searched so that the gradient they give matches the update."""
