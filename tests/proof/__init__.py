"""
Tests for the proof of agents.
"""
