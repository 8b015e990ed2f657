"""Dialogues with a simulated user, and answers that feedback improves (docs/dialogues.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.dialogues.feedback import SafetyFeedback
    from gristmill.synth.dialogues.profile import ProfileMatch, profile_f1
    from gristmill.synth.dialogues.simulated import DialogueSample, SimulatedDialogues

__all__ = ["DialogueSample", "ProfileMatch", "SafetyFeedback", "SimulatedDialogues", "profile_f1"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "DialogueSample": ".simulated",
        "ProfileMatch": ".profile",
        "SafetyFeedback": ".feedback",
        "SimulatedDialogues": ".simulated",
        "profile_f1": ".profile",
    },
)
