"""The texts of refusal-aware data. Every one is a default of some stage's option, and can be replaced there.

They are this project's own words: of R-Tuning only the shape is taken (arXiv 2311.09677), of PPO-M the scale
from 0 to 10 and the word "Confidence:" that a program can find (arXiv 2410.09724).
"""

from __future__ import annotations

SURE_QUESTION = "Going by nothing but what you know yourself, are you sure that this answer is right?"
SURE = "I am sure."
UNSURE = "I am unsure."

REFUSALS = (
    "I don't know the answer to this question.",
    "I do not know, and I would rather not guess.",
    "I'm not able to answer this from what I know.",
    "This is something that I have no reliable knowledge of.",
    "I don't have enough knowledge to answer that correctly.",
    "I am not certain enough of the answer to give one.",
    "Sorry, I don't know this one.",
    "I can't give a dependable answer to this question.",
    "My knowledge does not cover this, so I have no answer to give.",
    "I don't know. Any answer of mine would be a guess.",
    "I'm afraid I don't know the answer here.",
    "That is beyond what I know.",
    "I have no trustworthy information about this.",
    "I would have to make something up, so I will say that I don't know.",
    "I do not know this well enough to answer.",
    "I cannot answer this question with any confidence.",
)
"""Sixteen sentences, as many as R-Tuning-R has; one is chosen by seed."""

MAY_DECLINE = (
    "Answer the question if you know the answer. If you do not know it, say so instead of guessing; that is "
    "always allowed."
)
"""The system message of the ``system`` form."""

ABSTENTIONS = ("The passage does not say.",)
"""What is answered where the passages do not hold the answer. One fixed sentence, as in SALU."""

NOT_YET = ("The clues so far are not enough for me to tell.",)
"""What to refuse with where clues come one by one: give it to ``r_tuning`` as ``refusals``."""

STATE_CONFIDENCE = (
    "Give your answer first. On a new line after it write the word Confidence: and a whole number from 0 to "
    "10 that says how sure you are that the answer is right, 0 for not at all and 10 for entirely."
)
"""The system message that asks for a confidence in words."""

HARD_LOOKING = (
    "Hardly anyone gets this one right, so take care: {problem}",
    "Here is an obscure question from the final round of a very hard quiz. {problem}",
    "Experts are said to be divided on this. {problem}",
    "I have asked many people and nobody could tell me. {problem}",
    "This may well be beyond you, but I will ask. {problem}",
    "Warning: a specialist's question, and a tricky one. {problem}",
)
"""Ways to put an easy question so that it looks hard."""

FEASIBLE = (
    "{problem}\n\nDo not carry out TASK. Judge only whether you could: would you, with what you know and can "
    "do now, answer it correctly? Say feasible if you would and infeasible if you would not. {answer_with}"
)
"""How a model is asked whether a task is within its abilities."""
CAN_YOU = "Would you be able to answer this question correctly? {problem}"
"""The same question as it is in the data, with its two answers."""
I_CAN = "Yes, I can answer this."
I_CANNOT = "No, I cannot answer this reliably."
