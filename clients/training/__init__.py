"""Local training of one client, or of many in one stacked tensor."""
