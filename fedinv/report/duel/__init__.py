"""What a duel shows: files for other programs, a page, and tables in a terminal."""
