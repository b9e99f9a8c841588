"""
Tests for `kiroworkers.mcp_stdio`.
"""
