"""Model directories and their configuration."""
