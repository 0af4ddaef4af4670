"""Train the model ``digits``: handwritten digits of 8x8 pixels, grey 0 to 16.

``pip install torch scikit-learn onnx``, then ``python train.py [FOLDER]`` writes ``1/model.onnx`` and
``held_out.npz`` (the images the model never saw) next to this file, or into FOLDER, within seconds on a CPU.

The images are scikit-learn's ``load_digits``: the test part of "Optical Recognition of Handwritten Digits"
by E. Alpaydin and C. Kaynak (UCI Machine Learning Repository, CC BY 4.0).
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EPOCHS = 40
BATCH = 64
LEAST_ACCURACY = 0.97


class Split(NamedTuple):
    images: NDArray[np.uint8]  # [n, 8, 8]
    labels: NDArray[np.uint8]  # [n]
    train: NDArray[np.intp]  # indices into both
    held_out: NDArray[np.intp]


def split() -> Split:
    """Hold out one image in five, the same ones every time and as many of each digit."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, held_out = train_test_split(
        np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=0
    )
    return Split(digits.images.astype(np.uint8), digits.target.astype(np.uint8), train, held_out)


def train(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Any:
    """Return the trained network, from raw pixels to logits."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.use_deterministic_algorithms(mode=True)
    x = torch.from_numpy(images).float().unsqueeze(1)
    y = torch.from_numpy(labels).long()
    network = nn.Sequential(
        nn.BatchNorm2d(1, affine=False),  # scales the pixels
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * 4 * 4, 10)),
    )
    steps = EPOCHS * -(-len(y) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: Any, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    import torch

    with torch.no_grad():
        logits = network(torch.from_numpy(images).float().unsqueeze(1))
    return float(np.mean(logits.argmax(1).numpy() == labels))


def export(network: Any, path: Path) -> None:
    import onnx
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        torch.nn.Sequential(network, torch.nn.Softmax(dim=1)).eval(),
        (torch.zeros(1, 1, 8, 8),),
        path,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_axes={"image": {0: "batch"}, "probabilities": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    onnx.checker.check_model(path, full_check=True)


def main(folder: Path) -> None:
    images, labels, seen, unseen = split()
    network = train(images[seen], labels[seen])
    share = accuracy(network, images[unseen], labels[unseen])
    print(f"{share:.2%} of {len(unseen)} held-out images are recognised")
    if share < LEAST_ACCURACY:
        sys.exit(f"nothing is written below {LEAST_ACCURACY:.0%}")
    export(network, folder / "1" / "model.onnx")
    np.savez_compressed(folder / "held_out.npz", images=images[unseen], labels=labels[unseen])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
