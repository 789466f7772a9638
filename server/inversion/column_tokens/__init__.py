"""Records of an FT-Transformer, each by itself: its last [CLS] must lie in the spans of the last block's updates."""
