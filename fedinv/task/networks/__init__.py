"""The layers of each kind of network, one file a family."""
