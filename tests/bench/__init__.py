"""
Tests for `bench`.
"""
