"""What runs where the records are."""
