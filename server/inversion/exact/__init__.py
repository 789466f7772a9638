"""Records read off the update's equations, to every digit."""
