"""What attacks share: small pure parts over tensors."""
