"""
Tests for the package `kiroworkers.doctor`.
"""
