"""A linear model on made-up rows, as NumPy arrays without names: the way of Flower's older interface."""

import numpy as np


def load_data(partition_id: int):
    rng = np.random.default_rng(partition_id)
    x = rng.normal(size=(16, 5)).astype(np.float32)
    return x, (x @ np.arange(5, dtype=np.float32))[:, None]


def start():
    return [np.zeros((5, 1), np.float32), np.zeros(1, np.float32)]


def train(parameters, x, y, lr):
    weight, bias = (array.copy() for array in parameters)
    error = x @ weight + bias - y
    return [weight - lr * x.T @ error / len(x), bias - lr * error.mean(0)], float((error**2).mean())
