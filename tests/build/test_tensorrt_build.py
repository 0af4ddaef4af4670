"""What TensorRT is told and what it says, with a stand-in for its builder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from fake_builder import FakeBuilder, ParserError
from networks import DIGITS, model_of, saved

from yais.build.builder_log import builder_log
from yais.build.builder_package import BUILDERS, BuilderPackage, builder_package
from yais.build.options import BuildOptions
from yais.build.plan import build_plan
from yais.build.precision import Precision
from yais.build.replaced_file import replace_file
from yais.build.shape_ranges import ShapeRange
from yais.errors import Cancelled, FailedPrecondition, Internal, InvalidArgument, Unimplemented

SURFACES = Path(__file__).parents[1] / "engines/surfaces"


@pytest.fixture
def fake() -> FakeBuilder:
    return FakeBuilder()


def built(fake: FakeBuilder, **options):
    return build_plan(
        DIGITS, BuildOptions(**options), package=fake.package(), clock=iter([1.0, 3.5]).__next__
    )


def flags(fake: FakeBuilder) -> set[str]:
    return {flag.name for flag in fake.config.set}


class TestWhatItIsTold:
    def test_the_record_says_what_was_built(self, fake):
        plan = built(fake)
        assert plan.contents == b"ftrt plan"
        record = plan.record
        assert (record.builder, record.version, record.seconds) == ("tensorrt", "10.16.1.11", 2.5)
        assert record.source["sha256"] == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
        assert record.sha256 == hashlib.sha256(plan.contents).hexdigest()
        assert record.memory == {"plan": 9, "activation": 4096, "weights": 64}
        assert record.max_batch == 32
        assert [(layer.name, layer.kind) for layer in record.layers] == [("relu", "ACTIVATION")]
        assert plan.warnings == ()

    def test_by_default_little_is_set(self, fake):
        built(fake)
        assert flags(fake) == {"TF32"}
        assert fake.config.pools == {}
        assert fake.config.builder_optimization_level == 3
        assert fake.config.hardware_compatibility_level.name == "NONE"
        assert fake.parsed == [str(DIGITS)]

    def test_options_arrive(self, fake):
        plan = built(
            fake,
            tf32=False,
            workspace=1 << 30,
            level=5,
            weight_streaming=True,
            version_compatible=True,
            compatibility="ampere+",
        )
        assert flags(fake) == {"WEIGHT_STREAMING", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
        assert [*fake.config.pools.values()] == [1 << 30]
        assert fake.config.builder_optimization_level == 5
        assert fake.config.hardware_compatibility_level.name == "AMPERE_PLUS"
        assert plan.record.settings["workspace"] == 1 << 30

    def test_a_workspace_that_the_gpu_does_not_have(self, fake):
        with pytest.raises(InvalidArgument, match="got a workspace of 1099511627776 bytes"):
            built(fake, workspace=1 << 40)

    def test_profiles_arrive(self, fake):
        batches = (ShapeRange((1,), (1,), (1,)), ShapeRange((2,), (4,), (8,)))
        plan = built(fake, batches=batches)
        assert [profile.shapes["x"] for profile in fake.config.profiles] == [
            ((1, 4), (1, 4), (1, 4)),
            ((2, 4), (4, 4), (8, 4)),
        ]
        assert plan.record.max_batch == 8

    def test_fixed_shapes_have_no_profile(self, fake):
        fake.shape = (2, 4)
        plan = built(fake)
        assert fake.config.profiles == []
        assert plan.record.max_batch == 0

    def test_a_converted_model_is_parsed_from_another_file_which_goes(self, fake):
        plan = built(fake, precision=Precision.FP16)
        (parsed,) = fake.parsed
        assert parsed != str(DIGITS)
        assert not Path(parsed).exists()
        assert plan.record.settings["precision"] == "fp16"


class TestTimingCache:
    def test_it_is_made_read_and_written(self, fake, tmp_path):
        file = tmp_path / "there" / "cache"
        built(fake, timing_cache=file)
        assert file.read_bytes() == b"+"
        built(fake, timing_cache=file)
        assert file.read_bytes() == b"++"
        assert [each.name for each in file.parent.iterdir()] == ["cache"]

    def test_one_of_another_gpu_is_refused_and_stays(self, fake, tmp_path):
        file = tmp_path / "cache"
        file.write_bytes(b"other")
        with pytest.raises(InvalidArgument, match=r"cache is no timing cache for this GPU"):
            built(fake, timing_cache=file)
        assert file.read_bytes() == b"other"

    def test_a_failed_build_leaves_it(self, fake, tmp_path):
        file = tmp_path / "cache"
        file.write_bytes(b"mine")
        fake.plan = None
        with pytest.raises(Internal):
            built(fake, timing_cache=file)
        assert file.read_bytes() == b"mine"


class TestWhatItRefuses:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"targets": ("sm89",)}, FailedPrecondition, r"for the GPU that is here.*yais\[tensorrt-rtx\]"),
            ({"compatibility": "all"}, InvalidArgument, "got compatibility 'all'"),
            ({"level": 9}, InvalidArgument, "level 9, expected 0 to 5"),
            ({"workspace": 2**64}, InvalidArgument, r"expected less than 2\*\*64"),
            ({"precision": Precision.INT8}, InvalidArgument, "is not quantised"),
            ({"keep": ("Conv",)}, InvalidArgument, "expected fp16 or bf16"),
        ],
    )
    def test_options(self, fake, options, error, message):
        with pytest.raises(error, match=message):
            built(fake, **options)

    def test_no_gpu(self, fake):
        fake.has_gpu = False
        with pytest.raises(
            FailedPrecondition, match=r"cannot build here: CUDA initialization failure.*tensorrt-rtx"
        ):
            built(fake)

    def test_a_failed_build_says_why(self, fake):
        fake.plan = None
        with pytest.raises(Internal, match=r"TensorRT 10\.16\.1\.11 could not build the plan: no kernel for"):
            built(fake)

    def test_the_messages_of_one_build_are_not_of_the_next(self, fake):
        def complains(_monitor):
            for _ in range(2):
                fake.log.log(fake.ILogger.WARNING, "slow")
                fake.log.log(fake.ILogger.ERROR, "strange")
            return True

        fake.during = complains
        assert built(fake).warnings == ("slow",)
        fake.during = lambda _monitor: True
        assert built(fake).warnings == ()
        fake.plan = None
        with pytest.raises(Internal) as failed:
            built(fake)
        assert str(failed.value).endswith("could not build the plan: no kernel for node relu")

    def test_refused_profiles(self, fake):
        fake.refuses_profiles = True
        with pytest.raises(InvalidArgument, match=r"does not take the profile x 1x4:8x4:32x4"):
            built(fake)

    def test_shape_inputs(self, fake):
        fake.shape_input = True
        with pytest.raises(Unimplemented, match=r"the values of input 'x' are sizes"):
            built(fake)

    def test_batches_with_a_gap_are_refused_before_anything_is_built(self, fake):
        fake.during = lambda _monitor: pytest.fail("it was built")
        with pytest.raises(InvalidArgument, match="no profile takes a batch of 1"):
            built(fake, batches=(ShapeRange((2,), (2,), (4,)),))

    def test_types_without_a_name(self, fake):
        fake.during = lambda _monitor: pytest.fail("it was built")
        fake.output = fake.DataType.INT4
        with pytest.raises(Unimplemented, match=r"'y' is INT4, expected one of FLOAT"):
            built(fake)

    def test_text(self, fake, tmp_path):
        model = model_of("g (string[2] x) => (string[2] y) { y = Identity(x) }")
        with pytest.raises(Unimplemented, match=r"'x' is text"):
            build_plan(saved(tmp_path / "text.onnx", model), package=fake.package())


NO_DRIVER = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient))"
)

# As TensorRT-RTX 1.7 says them.
SAID = {
    "operator": (
        ParserError("UNSUPPORTED_NODE", "false", 3, "det", "Det"),
        "node 3 'det' (Det): the operator is not supported",
    ),
    "plugin": (
        ParserError(
            "INVALID_NODE",
            'creator && "Plugin not found, are the plugin name, version, and namespace correct?"',
            0,
            "",
            "Foo",
        ),
        "node 0 (Foo): Plugin not found, are the plugin name, version, and namespace correct?",
    ),
    "assertion": (
        ParserError(
            "UNSUPPORTED_NODE",
            "Assertion failed: creator && version(creator) == Version::k3: NonZero plugin "
            "creator was not found in plugin registry.",
            0,
            "nz",
            "NonZero",
        ),
        "node 0 'nz' (NonZero): NonZero plugin creator was not found in plugin registry",
    ),
    "usage": (
        ParserError(
            "INVALID_NODE",
            "Invalid Node - mm\nITensor::getDimensions: Error Code 4: API Usage Error (mm: last "
            "dimension of input0 = 4 and input1 = 5 but must match. In validate at /_src/a.cpp:192)\n"
            + NO_DRIVER,
            0,
            "mm",
            "MatMul",
        ),
        "node 0 'mm' (MatMul): mm: last dimension of input0 = 4 and input1 = 5 but must match",
    ),
    "graph": (ParserError("INVALID_GRAPH", "Trying to access weights!"), "Trying to access weights!"),
}
"""Errors of the parser, and what people get to read."""

WRONG = "the model is wrong there: export it anew"
LACKS = "change the model so that it does without, or serve it with ONNX Runtime"


class TestParserErrors:
    @pytest.mark.parametrize("what", SAID)
    def test_they_are_one_line_without_the_source_of_the_parser(self, fake, what):
        error, expected = SAID[what]
        fake.errors = [error]
        lacks = what in {"operator", "plugin", "assertion"}
        with pytest.raises(Unimplemented if lacks else InvalidArgument) as refused:
            built(fake)
        assert str(refused.value) == (
            f"{DIGITS}: TensorRT 10.16.1.11 does not take it: {expected}: {LACKS if lacks else WRONG}"
        )

    def test_several_are_all_said_once(self, fake):
        fake.errors = [SAID["operator"][0], SAID["graph"][0], SAID["operator"][0]]
        with pytest.raises(Unimplemented, match=rf"it: node 3 'det' .* supported; Trying.*!: {LACKS}$"):
            built(fake)


class TestFiles:
    @pytest.mark.parametrize("call", ["chmod", "replace"])
    def test_what_cannot_be_written_leaves_what_was_there(self, tmp_path, monkeypatch, call):
        file = tmp_path / "cache"
        file.write_bytes(b"before")

        def fails(*_arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, call, fails)
        with pytest.raises(OSError, match="No space left"):
            replace_file(file, b"after")
        assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("cache", b"before")]


class TestProgress:
    def test_it_is_reported(self, fake):
        seen = []
        build_plan(DIGITS, package=fake.package(), report=lambda name, part: seen.append((name, part)))
        assert seen == [("Building engine", 0.0), ("Building engine", 0.5)]

    def test_a_cancelled_build_ends_at_the_next_step(self, fake):
        asked = []

        def cancelled():
            asked.append(1)
            return len(asked) > 1

        fake.during = lambda _monitor: pytest.fail("it went on")
        with pytest.raises(Cancelled):
            build_plan(DIGITS, package=fake.package(), cancelled=cancelled)

    def test_cancelled_before_it_begins(self, fake):
        fake.during = lambda _monitor: pytest.fail("it was built")
        with pytest.raises(Cancelled):
            build_plan(DIGITS, package=fake.package(), cancelled=lambda: True)

    @pytest.mark.parametrize("which", ["report", "cancelled"])
    def test_what_a_callback_raises_ends_the_build_and_is_raised(self, fake, which):
        calls = []

        def breaks(*_arguments):
            calls.append(1)
            if len(calls) > 1:
                raise OSError("the terminal is gone")
            return False

        fake.during = lambda _monitor: pytest.fail("it went on")
        with pytest.raises(OSError, match="the terminal is gone"):
            build_plan(DIGITS, package=fake.package(), **{which: breaks})


class TestPackages:
    def test_the_first_that_is_there(self):
        modules = {"tensorrt_rtx_bindings": FakeBuilder()}
        found = builder_package(find=lambda name: _of(modules, name))
        assert found.name == "tensorrt-rtx"
        modules["tensorrt"] = FakeBuilder()
        assert builder_package(find=lambda name: _of(modules, name)).name == "tensorrt"
        assert builder_package("tensorrt-rtx", find=lambda name: _of(modules, name)).name == "tensorrt-rtx"

    @pytest.mark.parametrize("name", [None, *BUILDERS])
    def test_none_names_the_extra(self, name):
        extra = name or "tensorrt-rtx"
        with pytest.raises(FailedPrecondition, match=rf"pip install 'yais\[{extra}\]'"):
            builder_package(name, find=lambda each: _of({}, each))

    def test_one_whose_libraries_lack_is_none(self):
        def find(name):
            raise OSError("libnvinfer.so.10: cannot open shared object file")

        with pytest.raises(FailedPrecondition, match=r"libnvinfer\.so\.10"):
            builder_package("tensorrt", find=find)

    def test_the_logger_is_one(self, fake):
        assert builder_log(fake) is builder_log(fake)


def _of(modules, name):
    if name not in modules:
        raise ModuleNotFoundError(f"No module named '{name}'")
    return modules[name]


USED = {
    "Builder": [
        "create_network",
        "create_builder_config",
        "create_optimization_profile",
        "build_serialized_network",
    ],
    "IBuilderConfig": [
        "profiling_verbosity",
        "set_flag",
        "clear_flag",
        "get_memory_pool_limit",
        "set_memory_pool_limit",
        "builder_optimization_level",
        "hardware_compatibility_level",
        "progress_monitor",
        "add_optimization_profile",
        "create_timing_cache",
        "set_timing_cache",
        "get_timing_cache",
    ],
    "ITimingCache": ["serialize"],
    "IOptimizationProfile": ["set_shape"],
    "INetworkDefinition": ["num_inputs", "num_outputs", "num_layers", "get_input", "get_output", "get_layer"],
    "ITensor": ["name", "shape", "dtype", "is_shape_tensor"],
    "ILayer": ["name", "type"],
    "OnnxParser": ["parse_from_file", "num_errors", "get_error"],
    "ParserError": ["code", "desc", "node", "node_name", "node_operator"],
    "IProgressMonitor": ["phase_start", "step_complete", "phase_finish"],
    "ILogger": ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE", "log"],
    "BuilderFlag": ["TF32", "WEIGHT_STREAMING", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"],
    "HardwareCompatibilityLevel": ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"],
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "ProfilingVerbosity": ["DETAILED"],
    "MemoryPoolType": ["WORKSPACE"],
    "ICudaEngine": [
        "create_engine_inspector",
        "device_memory_size_v2",
        "get_engine_stat",
        "streamable_weights_size",
    ],
    "EngineInspector": ["get_engine_information"],
    "LayerInformationFormat": ["JSON"],
    "EngineStat": ["TOTAL_WEIGHTS_SIZE"],
}
"""What is used of a builder, by class."""


class TestSurfaces:
    @pytest.mark.parametrize("of", ["10.16.1", "11.4.0", "rtx-1.7.1"])
    def test_the_real_ones_have_what_is_used(self, of):
        surface = json.loads((SURFACES / f"tensorrt-{of}.json").read_text(encoding="utf-8"))
        lacking = {
            f"{name}.{member}"
            for name, members in USED.items()
            for member in members
            if member not in surface["classes"][name]
        }
        assert lacking == set()
        assert "init_libnvinfer_plugins" in surface["names"]

    @pytest.mark.parametrize("of", ["10.16.1", "11.4.0", "rtx-1.7.1"])
    def test_who_builds_ahead_of_time(self, of):
        surface = json.loads((SURFACES / f"tensorrt-{of}.json").read_text(encoding="utf-8"))
        config = type("IBuilderConfig", (), dict.fromkeys(surface["classes"]["IBuilderConfig"]))
        module = type("module", (), {"IBuilderConfig": config})
        assert BuilderPackage("tensorrt", module).ahead_of_time == of.startswith("rtx")

    def test_the_stand_in_has_nothing_else(self):
        """What the fake lacks, the code does not use; what it has, the real ones have."""
        fake = FakeBuilder()
        named = {name for name in vars(type(fake)) if name[0].isupper()}
        assert named - {"IBuilderConfig", "DataType"} <= set(USED) | {"Builder", "OnnxParser"}
        flags = {flag.name for flag in fake.BuilderFlag}
        assert flags == set(USED["BuilderFlag"])
