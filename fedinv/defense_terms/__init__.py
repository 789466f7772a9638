"""What the two sides of one defense must agree on: one file a defense, named after its kind."""
