"""
Tests for `kiroworkers.model_server`.
"""
