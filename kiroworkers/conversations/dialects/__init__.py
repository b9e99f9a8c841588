"""
Dialects: what is known of each agent, one TOML file an agent.
"""
