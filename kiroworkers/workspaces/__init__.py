"""
Prepare the folders in which sessions run.
"""
