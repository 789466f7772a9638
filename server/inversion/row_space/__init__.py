"""Records of a batch, searched in the span of the update's rows."""
