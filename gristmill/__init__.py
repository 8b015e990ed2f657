"""Gristmill turns a language model's own samples into training corpora that can be trusted.

The sub-packages are, lowest first: ``core``, ``engines``, ``verifiers``, ``filters``, ``synth``,
``train`` and ``pipelines``; each imports only from those before it. Importing ``gristmill`` itself
imports none of them: ``from gristmill.pipelines import run`` (or any other part) loads what it needs.
"""

__version__ = "0.1.0"
