"""Commands of the command line beside those of a scenario, each registered by fedinv/cli.py."""
