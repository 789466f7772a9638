"""What can be read off the updates of an app of one's own: its leak map, the attacks on it, and the gate at a site."""
