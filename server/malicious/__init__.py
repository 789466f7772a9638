"""What a malicious server does beyond the protocol: one file a deviation."""
