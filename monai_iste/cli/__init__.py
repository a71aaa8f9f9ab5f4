"""The command ``monai-iste``."""
