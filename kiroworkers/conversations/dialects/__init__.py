"""
Dialects: descriptions of the agents, one TOML file for each.
"""
