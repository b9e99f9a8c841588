"""
Choose who answers: the dispatcher, its queue and its workers.
"""
