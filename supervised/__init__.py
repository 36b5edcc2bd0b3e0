"""Supervised papers by phase of the syllabus, one file a paper. Imports nothing of ours.

    from supervised import PAPERS, create

    PAPERS["resnet"].title, PAPERS["resnet"].status
    model = create("resnet", …)  # what supervised.vision.resnet.create takes and gives

``PAPERS`` is the whole syllabus in the order in which it is read. The tables of the READMEs and
``scripts/train_paper.py --list`` are made from it.
"""

import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["PAPERS", "Paper", "create"]


@dataclass(frozen=True)
class Paper:
    """A row of the syllabus."""

    key: str
    phase: str  # the folder of its module, or the field it belongs to
    title: str
    authors: str  # the family names; "et al." where there are more than five
    year: int  # of its first publication
    module: str | None  # dotted; None while nothing is planned in detail
    status: Literal["works", "planned"]
    # works: module, parity test, learning check and notes exist (a test looks whether they do)


# fmt: off
_ROWS = [
    Paper("perceptron", "foundations",
          "The Perceptron: A Probabilistic Model for Information Storage and Organization "
          "in the Brain",
          "Rosenblatt", 1958, "supervised.foundations.perceptron", "works"),
    Paper("backprop", "foundations",
          "Learning Representations by Back-Propagating Errors",
          "Rumelhart, Hinton, Williams", 1986, "supervised.foundations.backprop", "works"),
    Paper("relu", "foundations",
          "Deep Sparse Rectifier Neural Networks",
          "Glorot, Bordes, Bengio", 2011, "supervised.foundations.relu", "works"),
    Paper("adam", "foundations",
          "Adam: A Method for Stochastic Optimization",
          "Kingma, Ba", 2014, "supervised.foundations.adam", "works"),
    Paper("dropout", "foundations",
          "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
          "Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov", 2014,
          "supervised.foundations.dropout", "works"),
    Paper("batch_norm", "foundations",
          "Batch Normalization: Accelerating Deep Network Training by Reducing Internal "
          "Covariate Shift",
          "Ioffe, Szegedy", 2015, "supervised.foundations.batch_norm", "works"),
    Paper("weight_decay", "foundations",
          "A Simple Weight Decay Can Improve Generalization",
          "Krogh, Hertz", 1991, "supervised.foundations.weight_decay", "works"),
    Paper("lenet", "vision",
          "Gradient-Based Learning Applied to Document Recognition",
          "LeCun, Bottou, Bengio, Haffner", 1998, "supervised.vision.lenet", "works"),
    Paper("alexnet", "vision",
          "ImageNet Classification with Deep Convolutional Neural Networks",
          "Krizhevsky, Sutskever, Hinton", 2012, "supervised.vision.alexnet", "works"),
    Paper("vgg", "vision",
          "Very Deep Convolutional Networks for Large-Scale Image Recognition",
          "Simonyan, Zisserman", 2014, "supervised.vision.vgg", "works"),
    Paper("resnet", "vision",
          "Deep Residual Learning for Image Recognition",
          "He, Zhang, Ren, Sun", 2015, "supervised.vision.resnet", "works"),
    Paper("unet", "vision",
          "U-Net: Convolutional Networks for Biomedical Image Segmentation",
          "Ronneberger, Fischer, Brox", 2015, "supervised.vision.unet", "works"),
    Paper("rnn", "sequence",
          "A Learning Algorithm for Continually Running Fully Recurrent Neural Networks",
          "Williams, Zipser", 1989, None, "planned"),
    Paper("lstm", "sequence",
          "Long Short-Term Memory",
          "Hochreiter, Schmidhuber", 1997, None, "planned"),
    Paper("seq2seq", "sequence",
          "Sequence to Sequence Learning with Neural Networks",
          "Sutskever, Vinyals, Le", 2014, None, "planned"),
    Paper("bahdanau", "sequence",
          "Neural Machine Translation by Jointly Learning to Align and Translate",
          "Bahdanau, Cho, Bengio", 2014, None, "planned"),
    Paper("transformer", "sequence",
          "Attention Is All You Need",
          "Vaswani et al.", 2017, None, "planned"),
    Paper("bert", "sequence",
          "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
          "Devlin, Chang, Lee, Toutanova", 2018, None, "planned"),
    Paper("word2vec", "sequence",
          "Efficient Estimation of Word Representations in Vector Space",
          "Mikolov, Chen, Corrado, Dean", 2013, None, "planned"),
    Paper("vit", "sequence",
          "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
          "Dosovitskiy et al.", 2020, None, "planned"),
    Paper("moe", "sequence",
          "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer",
          "Shazeer et al.", 2017, None, "planned"),
    Paper("mamba", "sequence",
          "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
          "Gu, Dao", 2023, None, "planned"),
    Paper("vae", "generative",
          "Auto-Encoding Variational Bayes",
          "Kingma, Welling", 2013, None, "planned"),
    Paper("gan", "generative",
          "Generative Adversarial Nets",
          "Goodfellow et al.", 2014, None, "planned"),
    Paper("ddpm", "generative",
          "Denoising Diffusion Probabilistic Models",
          "Ho, Jain, Abbeel", 2020, None, "planned"),
    Paper("biggan", "generative",
          "Large Scale GAN Training for High Fidelity Natural Image Synthesis",
          "Brock, Donahue, Simonyan", 2018, None, "planned"),
    Paper("wavenet", "generative",
          "WaveNet: A Generative Model for Raw Audio",
          "van den Oord et al.", 2016, None, "planned"),
    Paper("dqn", "reinforcement",
          "Human-Level Control through Deep Reinforcement Learning",
          "Mnih et al.", 2015, "agents.dqn", "works"),
    Paper("ddpg", "reinforcement",
          "Continuous Control with Deep Reinforcement Learning",
          "Lillicrap et al.", 2015, "agents.ddpg", "works"),
    Paper("sac", "reinforcement",
          "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a"
          " Stochastic Actor",
          "Haarnoja, Zhou, Abbeel, Levine", 2018, "agents.sac", "works"),
    Paper("a3c", "reinforcement",
          "Asynchronous Methods for Deep Reinforcement Learning",
          "Mnih et al.", 2016, "agents.a3c", "works"),
    Paper("alphago", "reinforcement",
          "Mastering the Game of Go with Deep Neural Networks and Tree Search",
          "Silver et al.", 2016, None, "planned"),
    Paper("alphafold", "structure",
          "Highly Accurate Protein Structure Prediction with AlphaFold",
          "Jumper et al.", 2021, None, "planned"),
    Paper("grasping", "robotics",
          "Learning Hand-Eye Coordination for Robotic Grasping with Deep Learning and "
          "Large-Scale Data Collection",
          "Levine, Pastor, Krizhevsky, Quillen", 2016, None, "planned"),
    Paper("lora", "scaling",
          "LoRA: Low-Rank Adaptation of Large Language Models",
          "Hu et al.", 2021, None, "planned"),
    Paper("domain_randomization", "robotics",
          "Domain Randomization for Transferring Deep Neural Networks from Simulation to "
          "the Real World",
          "Tobin et al.", 2017, "sim2real.localiser", "works"),
    Paper("flash_attention", "scaling",
          "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness",
          "Dao, Fu, Ermon, Rudra, Ré", 2022, None, "planned"),
]
# fmt: on
PAPERS: dict[str, Paper] = {paper.key: paper for paper in _ROWS}


def create(key: str, *args: Any, **kwargs: Any) -> Any:
    """What the paper is about (a model, a layer, an optimizer …), made by its module's ``create``.

    The arguments are that function's. Raises ValueError, in one line, for an unknown key and for
    a paper that has no module of ``supervised``.
    """
    if key not in PAPERS:
        near = difflib.get_close_matches(key, PAPERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown paper {key!r}; {hint}there is: {', '.join(PAPERS)}")
    module = PAPERS[key].module
    if module is not None and module.startswith("agents."):
        raise ValueError(f"{key} is an agent: use `from agents import {key.upper()}`")
    if module is None or importlib.util.find_spec(module) is None:
        raise ValueError(f"{key} is planned: it has no module yet")
    return importlib.import_module(module).create(*args, **kwargs)
