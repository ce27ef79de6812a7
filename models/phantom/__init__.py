"""A synthetic lumbar spine with known truth, as whole studies."""
