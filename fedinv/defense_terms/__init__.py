"""Parameters and functions that server and clients share for one defense, in a file named after its kind."""
