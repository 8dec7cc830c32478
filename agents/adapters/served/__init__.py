"""Policies that another process serves: ``ws://host:port``, by websocket and msgpack. Imports neither.

    wire         values as msgpack, arrays as openpi writes them; no pickle
    address      what a name says: host, port, options
    token        what a client shows to a server
    connection   one websocket with time-outs and a greatest size; every trouble is one sentence
    lanes        a server of ``lram serve``: batches of lanes, resets and rewards, exact
    single       servers of openpi and of vla-evaluation-harness: one lane at a time, chunks of actions
    ws, wss      the two schemes

docs/how-to/serving.md tells the protocols.
"""
