"""
Run requests that outlive their connection, and replay responses under idempotency keys.
"""
