"""The protocol between server and clients: what they agree on, and how weights and updates are sent."""
