"""
Describe the agents as dialects, one TOML file for each.
"""
