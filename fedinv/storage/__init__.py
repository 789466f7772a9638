"""What lies on disk: files, documents, observations."""
