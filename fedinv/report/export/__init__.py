"""Results for papers: tables as LaTeX, pages as PDF."""
