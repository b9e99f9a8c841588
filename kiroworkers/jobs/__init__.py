"""
Requests that outlive their connection, and answers that are given again.
"""
