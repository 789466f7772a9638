"""Small drivers of other projects' attacks, each run in an environment of its own."""
