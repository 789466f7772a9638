"""What passes between server and clients: what they agreed on, and how tensors travel."""
