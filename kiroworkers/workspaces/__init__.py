"""
Prepare the directories in which sessions run.
"""
