"""What every backbone promises, whichever paper it is from."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from command import ROOT
from torch import Tensor, nn

from supervised.backbones import BACKBONES, create_backbone, scaled

NARROW = 1 / 8
NORMALIZED = [name for name in BACKBONES if name.startswith("resnet")]
UNPADDED = {"nature_cnn", "lenet", "alexnet"}
every_backbone = pytest.mark.parametrize("name", BACKBONES)


def narrow(name: str, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return create_backbone(name, width=NARROW, **kwargs)


def pictures(n: int = 2, channels: int = 3, height: int = 73, width: int = 79) -> Tensor:
    """Of odd sizes."""
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(1))


def untrained(backbone: Any) -> Any:
    """With running statistics that are not those of a new one."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return backbone


# -- maps --------------------------------------------------------------------------------------


@every_backbone
def test_channels_and_strides_are_as_reported(name: str) -> None:
    """Pictures that are larger by four strides have maps that are larger by four."""
    backbone = narrow(name, norm="group")
    info = backbone.feature_info
    with torch.no_grad():
        maps = backbone(pictures())
        assert [m.shape[:2] for m in maps] == [(2, c) for c in info.channels()]
        assert len(info.channels()) == len(info.reduction()) == len(maps)
        more = 4 * max(info.reduction())
        larger = backbone(pictures(height=73 + more, width=79 + more))
    for feature_map, larger_map, reduction in zip(maps, larger, info.reduction(), strict=True):
        assert larger_map.shape[2] - feature_map.shape[2] == more / reduction
        assert larger_map.shape[3] - feature_map.shape[3] == more / reduction
        least = 79 / reduction - (8 if name in UNPADDED else 1)
        assert least < feature_map.shape[3] < 79 / reduction + 1
        assert (feature_map >= 0).all() or name == "lenet"  # after the nonlinearity


@pytest.mark.parametrize(
    ("name", "channels", "reductions"),
    [
        ("nature_cnn", [32, 64, 64], [4, 8, 8]),
        ("vgg16", [64, 128, 256, 512, 512, 512], [1, 2, 4, 8, 16, 32]),
        ("resnet18", [64, 64, 128, 256, 512], [2, 4, 8, 16, 32]),
        ("resnet50", [64, 256, 512, 1024, 2048], [2, 4, 8, 16, 32]),
        ("resnet56", [16, 16, 32, 64], [1, 1, 2, 4]),
    ],
)
def test_feature_info(name: str, channels: list[int], reductions: list[int]) -> None:
    """timm's numbers, where it has the network."""
    with torch.device("meta"):
        info = create_backbone(name).feature_info
    assert info.channels() == channels
    assert info.reduction() == reductions


@every_backbone
@pytest.mark.parametrize("in_chans", [1, 4])
def test_channels_of_the_picture(name: str, in_chans: int) -> None:
    maps = narrow(name, in_chans=in_chans, norm="group")(pictures(channels=in_chans))
    assert all(m.isfinite().all() for m in maps)


@every_backbone
def test_chosen_maps(name: str) -> None:
    """In the order asked for; stages behind the last of them are not there."""
    whole, last = untrained(narrow(name)).eval(), -1
    for indices in ((0, last), (1, 0), (last,)):
        chosen = narrow(name, out_indices=indices).eval()
        chosen.load_state_dict(whole.state_dict(), strict=last in indices)
        ours, all_of_them = chosen(pictures()), whole(pictures())
        for feature_map, i in zip(ours, indices, strict=True):
            assert torch.equal(feature_map, all_of_them[i])
        channels, reductions = whole.feature_info.channels(), whole.feature_info.reduction()
        assert chosen.feature_info.channels() == [channels[i] for i in indices]
        assert chosen.feature_info.reduction() == [reductions[i] for i in indices]
    pruned = narrow(name, out_indices=(0,))
    first = sum(p.numel() for p in whole.stages[0].parameters())
    assert sum(p.numel() for p in pruned.parameters()) == first


@every_backbone
def test_forward_features_is_the_deepest_map(name: str) -> None:
    backbone = untrained(narrow(name)).eval()
    assert torch.equal(backbone.forward_features(pictures()), backbone(pictures())[-1])


@every_backbone
def test_width(name: str) -> None:
    """A quarter of the channels, and some sixteenth of the weights."""
    with torch.device("meta"):
        whole, quarter = create_backbone(name), create_backbone(name, width=0.25)
    assert quarter.feature_info.channels()[-1] == whole.feature_info.channels()[-1] / 4
    sizes = [sum(p.numel() for p in b.parameters()) for b in (quarter, whole)]
    assert sizes[0] < sizes[1] / 5


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(64, 1, 64), (6, 1, 6), (64, 0.5, 32), (64, 0.3, 16), (16, 0.25, 8), (16, 0.01, 8)],
)
def test_scaled(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


# -- learning ----------------------------------------------------------------------------------


@every_backbone
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_gradient_reaches_every_parameter(name: str, norm: Any) -> None:
    """And the picture. The sum of a normalized map is constant; the one of its squares is not."""
    backbone = narrow(name, norm=norm)
    x = pictures().requires_grad_()
    backbone(x)[-1].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@every_backbone
def test_evaluation_does_not_depend_on_the_batch(name: str) -> None:
    backbone = untrained(narrow(name)).double().eval()
    x = pictures(4).double()
    with torch.no_grad():
        for together, alone in zip(backbone(x), backbone(x[2:3]), strict=True):
            torch.testing.assert_close(together[2:3], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NORMALIZED)
def test_group_norm_never_depends_on_the_batch(name: str) -> None:
    backbone = narrow(name, norm="group").double().train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    assert not list(backbone.buffers())
    x = pictures(4).double()
    with torch.no_grad():
        for together, alone in zip(backbone(x), backbone(x[2:3]), strict=True):
            torch.testing.assert_close(together[2:3], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_group_norm_keeps_something_of_a_single_pixel(name: str) -> None:
    """A map of 1 x 1: a group of one channel would be 0 after normalization, always."""
    first, second = narrow(name, norm="group")(pictures(2, height=17, width=17))[-1]
    assert first.shape[1:] == (1, 1)
    assert (first - second).abs().max() > 0.01


@pytest.mark.parametrize("name", sorted({*BACKBONES} - {"lenet"}))  # which is of 1998
def test_signals_keep_their_size(name: str) -> None:
    """He et al. 2015, eq. 10: no layer of a new network is silent, or shouts."""
    torch.manual_seed(0)
    for feature_map in create_backbone(name, width=0.25)(pictures(4)):
        assert 0.1 < feature_map.square().mean().sqrt() < 10
        assert feature_map.std(0).mean() > 0.01  # between pictures


# -- freezing ----------------------------------------------------------------------------------


@every_backbone
def test_freeze(name: str) -> None:
    """Nothing of a frozen backbone changes when a network around it is trained."""
    backbone = narrow(name)
    network = nn.Sequential(backbone)
    backbone.freeze()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    network.train()
    assert network.training
    assert not any(module.training for module in backbone.modules())
    x = pictures().requires_grad_()
    network(x)[-1].square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert x.grad is not None  # what stands before it may still learn
    after = backbone.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", NORMALIZED)
def test_batch_statistics_move_unless_frozen(name: str) -> None:
    """The control of ``test_freeze``."""
    backbone = narrow(name)
    before = [b.clone() for b in backbone.buffers()]
    backbone(pictures())
    assert not any(torch.equal(b, old) for b, old in zip(backbone.buffers(), before, strict=True))


# -- classifiers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "side"), [("vgg11", 224), ("resnet18", 65), ("resnet20", 65)])
def test_classifier(name: str, side: int) -> None:
    """timm's three functions; its weights fit the backbone of the same name."""
    classifier = narrow(name, features_only=False, num_classes=7).eval()
    x = pictures(height=side, width=side)
    with torch.no_grad():
        scores = classifier(x)
        assert scores.shape == (2, 7)
        features = classifier.forward_features(x)
        assert torch.equal(classifier.forward_head(features), scores)
        hidden = classifier.forward_head(features, pre_logits=True)
        assert hidden.ndim == 2
        backbone = narrow(name).eval()
        backbone.load_state_dict(classifier.trunk.state_dict())
        assert torch.equal(backbone(x)[-1], features)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("resnet", {}, "unknown backbone 'resnet'; there is: nature_cnn, "),
        ("resnet18", {"out_indices": (5,)}, "out_indices must be some of 0 to 4"),
        ("resnet18", {"out_indices": (-6,)}, "out_indices must be some of 0 to 4"),
        ("resnet18", {"out_indices": ()}, "out_indices must be some of 0 to 4"),
        ("vgg16", {"norm": "layer"}, "norm must be batch or group, not 'layer'"),
        ("resnet18", {"width": 0.0}, "width must be positive"),
        ("nature_cnn", {"width": float("nan")}, "width must be positive"),
        ("nature_cnn", {"features_only": False}, "NatureCNN has no classifier"),
        ("resnet18", {"features_only": False, "out_indices": (0,)}, "features_only must be true"),
    ],
)
def test_refusals(name: str, kwargs: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_backbone(name, **kwargs)


def test_papers_are_imported_when_asked_for() -> None:
    code = (
        "import sys, supervised.backbones as b; "
        "papers = lambda: {m for m in sys.modules if m.startswith('supervised.vision.')}; "
        "assert not papers(), papers(); b.create_backbone('resnet20'); "
        "assert papers() == {'supervised.vision.resnet'}, papers()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_names_of_the_nature_networks_weights() -> None:
    """Saved agents have them."""
    names = [f"stages.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")]
    assert list(create_backbone("nature_cnn").state_dict()) == names
