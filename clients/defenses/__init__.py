"""One file a defense: named after its kind, found because it is there."""
