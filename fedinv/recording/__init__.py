"""Recordings of any Flower app: what its server sent to each client and what came back, taken on the wire or imported.

RUN/wire/messages.jsonl          one line for each message sent and each reply, see lines.py
RUN/wire/<sha256>.safetensors    arrays, named by their content: a model that all clients are sent is there once
"""
