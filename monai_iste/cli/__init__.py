"""Command ``monai-iste``."""
