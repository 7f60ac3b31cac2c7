"""The live page over a health log: a server that answers questions and changes nothing.

`application` is what it answers, `door` whom and how, `serving` where. Pages are made of parts:
a browser that has one of them by its version is not sent it again.
"""
