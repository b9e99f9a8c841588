"""
Choose the agent that answers requests, and the command that starts it.
"""

from kiroworkers.agents.choice import Agent, choose_agent
from kiroworkers.agents.program import read_output, version_line
from kiroworkers.agents.spec import AgentSpec
from kiroworkers.agents.validation import isolate_env, validate_agent, validate_agents

__all__ = [
    "Agent",
    "AgentSpec",
    "choose_agent",
    "isolate_env",
    "read_output",
    "validate_agent",
    "validate_agents",
    "version_line",
]
