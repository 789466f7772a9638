"""Nothing to adapt to: the server sees each update as the client sent it."""

NOTHING_TO_ADAPT_TO = "the server itself clips and adds noise, after it has seen each client's update as it was"
"""Why knowing of the defense helps no attack."""
