"""Stateful emulators of the providers' control APIs: real HTTP servers for people without an account, and for tests.

They are written from the providers' documents and share nothing with the operator, because an emulator that shares
its models would share its misunderstandings.
"""
