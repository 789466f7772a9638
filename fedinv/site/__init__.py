"""What a site puts between an app and the server: Flower's SuperNode with a policy on every reply that leaves."""
