"""
Tests for the checks that agents are proven with.
"""
