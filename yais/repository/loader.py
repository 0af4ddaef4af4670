"""The loader: makes models from their directories."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from yais.core.loop_thread import LoopThread
from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.engines.python_pipeline import PythonPipeline
from yais.errors import NotFound
from yais.inference.ensemble import EnsembleModel
from yais.inference.ensemble_plan import EnsemblePlan
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.pipeline import PipelineModel
from yais.inference.plan import staging_bytes
from yais.inference.rate_limiter import RateLimiter
from yais.inference.registration import site_plans
from yais.inference.response_cache import ResponseCache
from yais.inference.runner import engines_of
from yais.inference.servable import FindModel
from yais.inference.sites import Sites
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import (
    DEFAULT_MAX_BATCH_SIZE,
    complete,
    engine_tensors,
    ensemble_steps,
    load_override_config,
    options,
    read_config,
    signature,
)
from yais.repository.directory import ModelDirectory
from yais.repository.entry import LoadedModel
from yais.repository.platforms import is_ensemble
from yais.repository.source import Source
from yais.repository.versions import wanted_versions

__all__ = ["ConfigDefaults", "LoadPlan", "ModelLoader", "Needed"]

_log = logging.getLogger("yais.repository")

_RESERVE_SECONDS = 60.0
"""How long a model that needs more memory on a GPU waits for the requests there to end."""

Needed = tuple[str, str]
"""Name and version of a model that another is composed of; the version is empty for the latest."""


@dataclass(frozen=True, slots=True)
class ConfigDefaults:
    """What is done to the configurations of all models.

    Attributes
    ----------
    overrides
        By the name of the model, fields to set, each as "path=value".
    auto_complete
        Whether what a configuration lacks is taken from the model itself.
    max_batch
        Given to a model that can batch and does not say; 0 or 1 adds no dynamic batching.
    """

    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    auto_complete: bool = True
    max_batch: int = DEFAULT_MAX_BATCH_SIZE


@dataclass(frozen=True, slots=True, eq=False)
class LoadPlan:
    """What is to be loaded of a model.

    Attributes
    ----------
    config
        As it was written, checked.
    versions
        To load, ascending.
    needs
        Models that it is composed of.
    """

    directory: ModelDirectory
    config: ModelConfig
    versions: tuple[int, ...]
    needs: tuple[Needed, ...]


class ModelLoader:
    """Makes models from directories. Thread-safe.

    Parameters
    ----------
    lanes, tokens, timer
        What models run with.
    sites
        Where they run on GPUs; None for models on the host only.
    find
        Finds the models that others are composed of.
    pipelines
        The loop that pipelines run on.
    defaults
        For all configurations.
    cache
        Of the responses of models that ask for it.
    limiter
        Of the resources that models share.
    """

    def __init__(
        self,
        *,
        lanes: Lanes,
        tokens: Tokens,
        timer: Timer,
        sites: Sites | None,
        find: FindModel,
        pipelines: LoopThread,
        defaults: ConfigDefaults,
        cache: ResponseCache | None,
        limiter: RateLimiter | None,
    ) -> None:
        self._lanes = lanes
        self._tokens = tokens
        self._timer = timer
        self._sites = sites
        self._find = find
        self._pipelines = pipelines
        self._defaults = defaults
        self._cache = cache
        self._limiter = limiter

    def plan(self, source: Source) -> LoadPlan:
        """Read a model's configuration, and see which versions it asks for.

        Raises
        ------
        InvalidArgument
            The configuration is wrong, or the model is in several repositories.
        NotFound
            There is none of the versions.
        """
        directory = source.directory
        name = directory.name
        overrides = self._defaults.overrides.get(name, ())
        if source.config is None:
            config = read_config(directory.config, name, overrides)
        else:
            config = load_override_config(source.config, name, overrides, directory.path)
        versions = wanted_versions(config, directory.versions())
        if not versions:
            raise NotFound(
                f"at least one version must be available under the version policy of model '{name}': "
                f"{directory.path} has {_present(directory)}"
            )
        if missing := sorted(set(config.version_policy.specific.versions) - set(versions)):
            _log.warning("model '%s' has no version %s, which its version_policy names", name, missing)
        needs = {(step.model, step.version): None for step in ensemble_steps(config)}
        return LoadPlan(directory, config, tuple(versions), tuple(needs))

    def load(self, plan: LoadPlan, version: int) -> LoadedModel:
        """Make one version of a model, and warm it up. Lets through whatever its code raises."""
        config = ModelConfig()
        config.CopyFrom(plan.config)
        make = self._ensemble if is_ensemble(config) else self._model
        return make(plan.directory, str(version), config)

    def _ensemble(self, directory: ModelDirectory, version: str, config: ModelConfig) -> LoadedModel:
        complete(config, directory=directory.path)
        self._warn_of_what_is_off(config)
        described = signature(config)
        steps = ensemble_steps(config)
        plan = EnsemblePlan.of(
            described.name, steps, described.inputs, described.outputs, described.max_batch
        )
        plan.check(self._find)
        limit = config.ensemble_scheduling.max_inflight_requests
        cache = self._cache if config.response_cache.enable else None
        model = EnsembleModel(described, version, plan, find=self._find, max_in_flight=limit, cache=cache)
        return LoadedModel(model, config, _labels(directory, config), composed=True)

    def _model(self, directory: ModelDirectory, version: str, config: ModelConfig) -> LoadedModel:
        backend = backend_of(config)
        path = directory.file(int(version), config.default_model_filename or backend.filename)
        engine = backend.load(config, version, path, auto_complete=self._defaults.auto_complete)
        try:
            complete(
                config,
                engine,
                directory=directory.path,
                auto_complete=self._defaults.auto_complete,
                default_max_batch=self._defaults.max_batch,
            )
            inputs, outputs = engine_tensors(config, directory.path)
            engine.select([spec.name for spec in inputs], [spec.name for spec in outputs])
            labels = _labels(directory, config)
            self._warn_of_what_is_off(config)
            if isinstance(engine, PythonPipeline):
                return LoadedModel(self._pipeline(config, version, engine), config, labels, composed=True)
            model = self._with_engine(config, version, engine, options(config, directory.path))
        except BaseException:
            engine.close()
            raise
        try:
            model.warm_up(on_zeros=backend.warms_up)
        except BaseException:
            model.close(0.0)
            raise
        return LoadedModel(model, config, labels)

    def _warn_of_what_is_off(self, config: ModelConfig) -> None:
        if config.response_cache.enable and self._cache is None:
            _log.warning("model '%s' asks for the response cache, and the server has none", config.name)
        limited = any(group.HasField("rate_limiter") for group in config.instance_group)
        if limited and self._limiter is None:
            _log.warning("model '%s' names resources, and the server has no rate limiter", config.name)

    def _with_engine(self, config: ModelConfig, version: str, engine: Engine, options: ModelOptions) -> Model:
        lanes, tokens, own = self._lanes, self._tokens, None
        if getattr(engine, "blocks", False):
            # It may wait for anything, as long as it likes: not with the threads and tokens of all models.
            own = lanes = Lanes(f"yais-{config.name}", threads={"execute": options.instances})
            tokens = Tokens(options.instances)
        try:
            described = signature(config, engine)
            if self._sites is not None:
                _reserve(self._sites, described, engines_of(engine, options.instances))
            return Model(
                described,
                version,
                engine,
                options,
                lanes=lanes,
                tokens=tokens,
                timer=self._timer,
                sites=self._sites,
                cache=self._cache,
                limiter=self._limiter,
                on_close=own.close if own is not None else None,
            )
        except BaseException:
            if own is not None:
                own.close()
            raise

    def _pipeline(self, config: ModelConfig, version: str, pipeline: PythonPipeline) -> PipelineModel:
        return PipelineModel(
            signature(config),
            version,
            pipeline.function,
            find=self._find,
            loop=self._pipelines,
            instances=options(config).instances,
            on_close=pipeline.close,
            cache=self._cache if config.response_cache.enable else None,
        )


def _reserve(sites: Sites, signature: Signature, engines: Sequence[Engine]) -> None:
    """Make room for the engines that work on devices; the others have memory of their own."""
    plans = site_plans(signature, [engine for engine in engines if hasattr(engine, "begin")])
    for gpu, plan in plans.items():
        site = sites.of(gpu)
        had = site.fits(plan)
        site.reserve(staging_bytes([plan]), _RESERVE_SECONDS, device=plan.device, scratch=plan.scratch)
        if not had:
            _log.info("%s: %s", site, site.reserved)


def _present(directory: ModelDirectory) -> str:
    versions = directory.versions()
    if versions:
        return f"only the versions {versions}"
    return "no directory named by a positive number, expected the model's file in one such as '1'"


def _labels(directory: ModelDirectory, config: ModelConfig) -> dict[str, list[str]]:
    return {
        output.name: directory.labels(output.label_filename)
        for output in config.output
        if output.label_filename
    }
