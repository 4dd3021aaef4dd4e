"""A trained run, as the compiler sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg.bundle.compile import Kind, compiled
from medseg.bundle.facts import DataFacts, of_region
from medseg.bundle.language import Component
from medseg.config.finder import FINDER
from medseg.config.schema import Config
from medseg.config.stages import first_stage

WEIGHTS = Path("models") / "model.pt"


@dataclass(frozen=True)
class Trained:
    """The folder of a run, its config, and what its data are."""

    folder: Path
    config: Config
    facts: DataFacts

    @property
    def weights(self) -> Path:
        """The weights that are kept, see `engine.resume.Checkpoints`; they are there after the first epoch."""
        return self.folder / WEIGHTS

    @property
    def finder(self) -> Trained | None:
        """The first stage, where the config has two."""
        if self.config.finder is None:
            return None
        return Trained(self.folder / FINDER, first_stage(self.config), of_region(self.facts))

    @property
    def stages(self) -> list[Trained]:
        """In the order of training: the finder, where there is one, and the run itself."""
        return [self] if self.finder is None else [self.finder, self]

    @property
    def name(self) -> str:
        """What a sidecar calls it."""
        fold = self.config.data.fold
        return self.config.name if fold is None else f"{self.config.name} fold {fold}"

    def compiled(self, kind: Kind) -> Component:
        """What is run, in memory; nothing in the folder is written or executed for it."""
        return compiled(kind, self.config, facts=self.facts, bundle_root=str(self.folder))
