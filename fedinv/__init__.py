"""fedinv: what would the server of a federation learn about whom, and what does each defense buy at what cost?"""

__version__ = "0.1.0"
