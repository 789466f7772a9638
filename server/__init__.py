"""What runs where the updates arrive."""
