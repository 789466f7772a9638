"""One file an attack: named after its kind, found because it is there."""
