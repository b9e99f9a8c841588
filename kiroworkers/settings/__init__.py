"""
Read the settings of the server: flags, environment variables, a configuration file, defaults.
"""

from kiroworkers.settings.table import (
    GROUPS,
    EffectiveSettings,
    Settings,
    inherited_environment,
    options,
    unknown_variables,
)

__all__ = [
    "GROUPS",
    "EffectiveSettings",
    "Settings",
    "inherited_environment",
    "options",
    "unknown_variables",
]
