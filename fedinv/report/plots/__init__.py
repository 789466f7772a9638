"""Pictures of results, as PNG bytes: one file a kind."""
