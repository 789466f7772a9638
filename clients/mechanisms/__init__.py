"""What several defenses share: clipping, noise, and the largest entries."""
