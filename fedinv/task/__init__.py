"""What is learned, known to everyone: the columns of a record, the networks, and the loss."""
