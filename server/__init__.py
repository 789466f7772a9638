"""The server's side: the ServerApp, aggregation, deviations of a malicious server, and the attacks."""
