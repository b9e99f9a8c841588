"""
Who answers: processes on PTYs, sessions, workers and the pool of them.
"""
