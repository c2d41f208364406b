"""Training: the loop, its state on disk, and the learning rate."""

from etsdm.training.config import Training
from etsdm.training.optimisation import learning_rate, make_optimizer
from etsdm.training.state import read_state, write_state
from etsdm.training.trainer import Progress, Trainer

__all__ = ["Progress", "Trainer", "Training", "learning_rate", "make_optimizer", "read_state", "write_state"]
