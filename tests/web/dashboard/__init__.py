"""
Tests for `kiroworkers.web.dashboard`.
"""
