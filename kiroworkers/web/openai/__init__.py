"""
The door for clients of OpenAI's API: chat completions and models.
"""
