"""What lies on disk: files, scenario documents, observations, claims, and a run folder's paths."""
