"""Celery tasks: grade a revision, deliver its objects. The ledger says what is next; a message is only a hint."""
