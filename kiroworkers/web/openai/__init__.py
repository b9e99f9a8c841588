"""
Serve the part of the API that is compatible with OpenAI's: chat completions and models.
"""
