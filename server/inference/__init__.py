"""What attacks infer that is no single record: classes, attributes, membership, properties."""
