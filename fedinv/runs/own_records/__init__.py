"""Records that somebody gives: read from their file, looked for in updates, or held against what was read off them."""
