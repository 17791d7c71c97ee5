"""Networks of keras.applications on PyTorch: as they are, with nhwc_conv.keras enabled, and prepared by it.

python bench/keras_networks.py                       # one thread, batches of one, 224 pixels
python bench/keras_networks.py --size 64 --rounds 2 --only MobileNetV2

Weights are random. Before anything is timed, results and gradients are held against those of Keras as it is: they may
be off by SAFETY times what rounding does, which is tried with weights that are off by it. Contenders take turns; ratios
are of medians. Where they are installed, Keras on JAX and on TensorFlow run beside it, in processes of their own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from math import prod

os.environ.setdefault("KERAS_BACKEND", "torch")

import layers  # noqa: F401  (puts the package on the path)
import numpy as np
from timing import measure

NETWORKS = "ResNet50", "MobileNetV2", "EfficientNetB0", "ConvNeXtTiny", "Xception"
OTHERS = {"jax": "jax", "tensorflow": "tensorflow"}  # backends, and their packages
DRAWS, SAFETY = 2, 8
CLASSES = 1000


def network(name, size):
    """With statistics as after some training, and results that are no probabilities, which would all be alike."""
    import keras

    keras.utils.set_random_seed(0)
    options = {"weights": None, "input_shape": (size, size, 3), "classifier_activation": None}
    model = getattr(keras.applications, name)(**options)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            n = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(size=n) * 0.1)
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, n))
    model.compile("sgd", "mse")
    return model


def data(size):
    rng = np.random.default_rng(0)
    return rng.normal(size=(1, size, size, 3)).astype("float32"), rng.normal(size=(1, CLASSES)).astype(
        "float32"
    )


def calls(model, size):
    x, y = data(size)
    return {
        "inference": lambda: model.predict_on_batch(x),
        "training": lambda: model.train_on_batch(x, y),
    }


def off_by_rounding(weights, rng):
    """Each as if a sum of as many products as it takes part in had been rounded there."""
    for w in weights:
        unit = np.sqrt(prod(w.shape[:-1]) + 1) * np.finfo(w.dtype).eps / 2 if w.dtype == np.float32 else 0
        yield (w * (1 + unit * rng.choice([-1, 1], w.shape))).astype(w.dtype)


def answers(model, size):
    """Results of inference and of training, and all gradients of the latter, as NumPy has them."""
    import torch

    x, y = (torch.from_numpy(array) for array in data(size))
    before = model.get_weights()
    with torch.no_grad():
        found = [model(x, training=False)]
    model.zero_grad()
    out = model(x, training=True)
    (out * y).sum().backward()
    found += [out, *(v.value.grad for v in model.trainable_variables)]
    model.set_weights(before)  # statistics and seeds
    return [np.array(t.detach()) for t in found]


def distances(found, expected):
    return np.array([np.abs(a - b).max() for a, b in zip(found, expected, strict=True)])


def verified(model, size):
    """(the largest deviation of a result, of a gradient) of what rounding explains; raises where it is over SAFETY."""
    import nhwc_conv

    weights, rng = model.get_weights(), np.random.default_rng(2)
    expected = answers(model, size)
    limits = np.array([np.finfo("float32").eps * np.abs(a).max() for a in expected])
    for _ in range(DRAWS):
        model.set_weights(list(off_by_rounding(weights, rng)))
        limits = np.maximum(limits, distances(answers(model, size), expected))
        model.set_weights(weights)
    # Variables of a layer share theirs: the exact gradient of one may be zero.
    owners = np.array(
        ["inference", "training", *(v.path.rpartition("/")[0] for v in model.trainable_variables)]
    )
    limits = np.array([limits[owners == owner].max() for owner in owners])
    with nhwc_conv.keras.enable():
        found = distances(answers(model, size), expected) / limits
    if not (found <= SAFETY).all():
        names = ["inference", "training", *(v.path for v in model.trainable_variables)]
        raise SystemExit(f"off by {found.max():.1f} times what rounding explains: {names[found.argmax()]}")
    return found[:2].max(), found[2:].max()


def on_torch(name, options):
    """{what: {contender: median seconds}}."""
    import nhwc_conv

    model = network(name, options.size)
    results, gradients = verified(model, options.size)
    print(
        f"  off by {results:.2f} (results) and {gradients:.2f} (gradients) of what rounding explains",
        flush=True,
    )
    prepared = nhwc_conv.keras.prepare(model)  # which compares by itself
    found = {}
    for what, call in calls(model, options.size).items():

        def enabled(call=call):
            with nhwc_conv.keras.enable():
                call()

        functions = {"torch": call, "enabled": enabled}
        if what == "inference":
            functions["prepared"] = calls(prepared, options.size)[what]
        times = measure(functions, options.rounds, options.seconds)
        found[what] = {name: statistics.median(values) for name, values in times.items()}
    return found


def elsewhere(backend, name, options):
    """The same for another backend."""
    steps = ["--size", options.size, "--rounds", options.rounds, "--seconds", options.seconds]
    command = [sys.executable, __file__, "--backend", backend, "--only", name, *map(str, steps)]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        return {}, f"{backend}: {done.stderr.strip().splitlines()[-1]}"
    return json.loads(done.stdout.splitlines()[-1]), None


def on_another(options):
    if options.backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    times = {
        what: measure({"": call}, options.rounds, options.seconds)[""]
        for what, call in calls(network(options.only, options.size), options.size).items()
    }
    print(json.dumps({what: statistics.median(values) for what, values in times.items()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="pixels along a side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="per contender and round")
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--backend", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.backend:
        on_another(options)
        return
    import torch

    from verify.summary import processor

    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d')}, {processor()}, one thread, 1x{options.size}x{options.size}x3")
    ratios = {}
    for name in (name for name in NETWORKS if options.only in name):
        print(name, flush=True)
        found = on_torch(name, options)
        for backend in (backend for backend, package in OTHERS.items() if find_spec(package)):
            times, failed = elsewhere(backend, name, options)
            if failed:
                print(f"  left out: {failed}")
            for what, seconds in times.items():
                found[what][backend] = seconds
        for what, medians in found.items():
            for contender, seconds in medians.items():
                ratio = medians["torch"] / seconds
                ratios.setdefault((what, contender), []).append(ratio)
                print(f"  {what:9} {contender:10} {1e3 * seconds:9.2f} ms  {ratio:5.2f}x", flush=True)
    for (what, contender), values in ratios.items():
        if contender != "torch":
            mean = statistics.geometric_mean(values)
            print(f"{what}, {contender}: {mean:.2f} times Keras on PyTorch, at least {min(values):.2f}")


if __name__ == "__main__":
    main()
