"""
Serve conversations in the formats of OpenAI's and Anthropic's APIs.

`routes` has the routes.  Each API has a module that makes its JSON and its events
(`completions`, …); the rest is the same for all.
"""
