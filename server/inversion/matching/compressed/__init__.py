"""Objectives for updates of which a defense left some coordinates, or signs."""
