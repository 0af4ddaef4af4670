"""Labels of metrics from the `metric_tags` of models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["tag_labels"]

_NOT_IN_NAMES = re.compile("[^a-zA-Z0-9_]")


def tag_labels(tags: Sequence[Mapping[str, str]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return what the tags of models become as labels of metrics that they share.

    A label is called as in Triton: "_" and the tag. What Prometheus does not allow in names becomes "_", and
    as it reserves names that begin with two of them, there is one. Of tags that are then the same, the
    model's last in alphabetical order counts.

    Parameters
    ----------
    tags
        Of each model.

    Returns
    -------
    names
        Of the labels that any of the models has, sorted.
    values
        For each model, of these labels; "" for one that it lacks, which is no label to Prometheus.
    """
    labels = [{_name(tag): of_model[tag] for tag in sorted(of_model)} for of_model in tags]
    names = tuple(sorted(set[str]().union(*labels)))
    return names, [tuple([of_model.get(name, "") for name in names]) for of_model in labels]


def _name(tag: str) -> str:
    return "_" + _NOT_IN_NAMES.sub("_", tag).lstrip("_")
