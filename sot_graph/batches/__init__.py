"""Batch APIs of providers, at half the price: the requests of a graph are kept, sent as batches, and answered later.

The graph runs as ever. Its model's client gets the replies that are there, and an error for each request that is not;
these requests are the next batch. So a file of questions takes two batches: its outlines, then its points.
"""
