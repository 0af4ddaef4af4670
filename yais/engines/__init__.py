"""What runs a model file. Knows no scheduling."""
