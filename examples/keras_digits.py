"""A Keras network learns handwritten digits on PyTorch, as it is and with its convolutions computed by nhwc_conv.

    pip install .[keras] scikit-learn
    python examples/keras_digits.py [epochs]

Rounding differs in the two, and training magnifies it, by jumps where a maximum or a ReLU decides otherwise. So the
network is also trained as it is, some times, from weights of which each is off by one unit in the last place, up or
down: losses should differ no more than by that.
"""

import os
import sys
import time

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
from sklearn.datasets import load_digits

import nhwc_conv


def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.SeparableConv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"], jit_compile=False)
    return model


def train(model, images, digits, epochs):
    """The loss of each epoch, the accuracy on images that were not trained on, and the seconds of training."""
    known = len(images) * 4 // 5
    model.predict(images[:1], verbose=0)  # what is done once does not count
    start = time.perf_counter()
    history = model.fit(
        images[:known], digits[:known], batch_size=32, epochs=epochs, shuffle=False, verbose=0
    )
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(images[known:], digits[known:], verbose=0)
    return history.history["loss"], accuracy, seconds


def nearby_network(seed):
    model, random = network(), np.random.default_rng(seed)
    beyond = [random.choice([-np.inf, np.inf], w.shape).astype("float32") for w in model.get_weights()]
    model.set_weights([np.nextafter(w, to) for w, to in zip(model.get_weights(), beyond, strict=True)])
    return model


def largest_difference(losses, others):
    return max(abs(a - b) / a for a, b in zip(losses, others, strict=True))


def main(epochs=4):
    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    found = {"Keras on PyTorch": train(network(), images, digits, epochs)}
    with nhwc_conv.keras.enable():
        found["with nhwc_conv"] = train(network(), images, digits, epochs)
    original, ours = (losses for losses, _, _ in found.values())
    nearby = [train(nearby_network(seed), images, digits, epochs) for seed in range(4)]
    found["rounded"] = max(nearby, key=lambda trained: largest_difference(original, trained[0]))
    for name, (losses, accuracy, seconds) in found.items():
        print(
            f"{name:17} losses {', '.join(f'{n:.4f}' for n in losses)}  accuracy {accuracy:.3f}  {seconds:.2f} s"
        )
    rounded = largest_difference(original, found["rounded"][0])
    print(f"losses differ by {largest_difference(original, ours):.1e} of their value", end="; ")
    print(f"one unit in the last place of the first weights makes {rounded:.1e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
