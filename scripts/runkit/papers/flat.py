"""Pictures as vectors, for the papers whose networks do not know that pixels have neighbours."""

from dataclasses import dataclass

from torch import Tensor, nn

from supervised.data import Dataset, load
from supervised.fit import predict


@dataclass(frozen=True)
class Flat:
    """Inputs float32 [N, pixels] in [0, 1], and classes int64 [N]."""

    inputs: Tensor
    targets: Tensor

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        """What a Fit takes as its data."""
        return self.inputs, self.targets

    @property
    def pixels(self) -> int:
        return self.inputs.shape[1]

    def error(self, model: nn.Module) -> float:
        """Percent of the examples that the model classifies wrongly, in evaluation mode."""
        wrong = predict(model, self.inputs, 1000).argmax(1) != self.targets
        return 100 * wrong.double().mean().item()

    def cost(self, model: nn.Module, limit: int | None = None) -> float:
        """Mean -log P(class) over all examples, or the first ``limit``, in evaluation mode."""
        logits = predict(model, self.inputs[:limit], 1000)
        return nn.functional.cross_entropy(logits, self.targets[:limit]).item()


def flat(name: str, device: str, binary: bool = False) -> tuple[Flat, Flat]:
    """Training and test set called ``name``, divided by the largest pixel; binary: rounded."""
    splits = load(name)
    largest = splits.train.inputs.max().item()

    def convert(part: Dataset) -> Flat:
        inputs = part.inputs.flatten(1).float().div(largest)
        return Flat((inputs.round() if binary else inputs).to(device), part.targets.to(device))

    return convert(splits.train), convert(splits.test)
