"""Tables of records, how they are made or read, and how they are spread over clients."""
