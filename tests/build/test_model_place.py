"""Plans in a repository, with their configuration and their record; and what is in them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.build.model_place import ModelPlace, model_name
from yais.build.plan import BuiltPlan
from yais.build.plan_config import config_text
from yais.build.plan_record import Layer, PlanRecord, Tensor
from yais.build.shape_ranges import ShapeRange
from yais.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.config import parse_config, read_config

RECORD = PlanRecord(
    builder="tensorrt-rtx",
    version="1.7.1.116",
    source={"file": "model.onnx", "sha256": "00", "opset": 17},
    targets=("sm89",),
    settings={"precision": "fp16", "tf32": True, "keep": []},
    inputs=(Tensor("image", "FP32", (-1, 3, -1, 8)),),
    outputs=(Tensor("classes", "FP16", (-1, 10)), Tensor("found", "INT64", (-1,))),
    max_batch=8,
    profiles=({"image": ShapeRange((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 16, 8))},),
    layers=(Layer("a", "CONVOLUTION"), Layer("b", "ACTIVATION")),
    memory={"plan": 4, "weights": 10},
    sha256="00",
    seconds=1.5,
)
PLAN = BuiltPlan(b"plan", RECORD, ())
OTHER = BuiltPlan(b"other", replace(RECORD, outputs=(Tensor("classes", "FP32", (-1, 10)),)), ())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestNames:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/a/resnet.onnx", "resnet"),
            ("/a/digits/1/model.onnx", "digits"),
            ("/a/digits/model.onnx", "model"),
            ("/a/digits/1/other.onnx", "other"),
        ],
    )
    def test_after_the_file(self, path, name):
        assert model_name(Path(path)) == name

    @pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "__x", "a/b", "a\\b", "a\0b"])
    def test_what_is_none(self, tmp_path, name):
        with pytest.raises(InvalidArgument, match="got the model name"):
            ModelPlace(tmp_path, name).check()

    @pytest.mark.parametrize("link", ["m", "m/1"])
    def test_a_link_to_nowhere_is_in_the_way(self, tmp_path, link):
        (tmp_path / link).parent.mkdir(exist_ok=True)
        (tmp_path / link).symlink_to("nowhere")
        with pytest.raises((AlreadyExists, FailedPrecondition), match=f"{link} is there"):
            ModelPlace(tmp_path, "m").check()

    def test_versions_are_positive(self, tmp_path):
        with pytest.raises(InvalidArgument, match="got the version 0"):
            ModelPlace(tmp_path, "m", 0).check()


class TestConfiguration:
    def test_it_is_read_as_any_other(self):
        config = parse_config(config_text("m", RECORD), "m")
        assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 8)
        assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [
            ("image", 11, [3, -1, 8])
        ]
        assert [(each.name, each.data_type, list(each.dims)) for each in config.output] == [
            ("classes", 10, [10]),
            ("found", 9, []),
        ]
        assert config.HasField("dynamic_batching")
        (group,) = config.instance_group
        assert group.kind == group.KIND_GPU
        assert list(group.profile) == []

    def test_without_a_batch_dimension(self):
        config = parse_config(config_text("m", replace(RECORD, max_batch=0)), "m")
        assert config.max_batch_size == 0
        assert list(config.input[0].dims) == [-1, 3, -1, 8]
        assert not config.HasField("dynamic_batching")

    def test_every_profile_is_used(self):
        text = config_text("m", replace(RECORD, profiles=RECORD.profiles * 3))
        assert 'profile: "2"' in text

    @pytest.mark.parametrize("datatype", ["FP32", "FP16", "BF16", "INT8", "UINT8", "INT32", "INT64", "BOOL"])
    def test_every_type(self, datatype):
        config = parse_config(
            config_text("m", replace(RECORD, inputs=(Tensor("x", datatype, (-1, 2)),))), "m"
        )
        assert ModelConfig().input.add(data_type=config.input[0].data_type) is not None
        assert config.input[0].data_type != 0


class TestRecord:
    def test_it_is_read_as_it_was_written(self, tmp_path):
        (tmp_path / "build.json").write_text(RECORD.to_json())
        assert PlanRecord.read(tmp_path / "build.json") == RECORD

    @settings(deadline=None)
    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
        ),
        st.sampled_from([*json.loads(RECORD.to_json()), "more"]),
    )
    def test_what_is_none_says_so(self, tmp_path_factory, value, key):
        file = tmp_path_factory.getbasetemp() / "build.json"
        written = json.loads(RECORD.to_json())
        file.write_text(json.dumps(written | {key: value}))
        if key in {"form", "more"}:
            with pytest.raises(InvalidArgument, match=r"build\.json is no record of a build"):
                PlanRecord.read(file)
        else:
            with contextlib.suppress(InvalidArgument):
                PlanRecord.read(file)

    @pytest.mark.parametrize("text", ["", "[]", "{", "null", "3"])
    def test_other_files(self, tmp_path, text):
        (tmp_path / "build.json").write_text(text)
        with pytest.raises(InvalidArgument, match="is no record of a build"):
            PlanRecord.read(tmp_path / "build.json")


class TestWriting:
    def test_a_new_model(self, tmp_path):
        path = ModelPlace(tmp_path / "new" / "repository", "m").write(PLAN)
        assert path == tmp_path / "new/repository/m/1/model.plan"
        folder = tmp_path / "new/repository"
        assert sorted(files(folder)) == ["m/1/build.json", "m/1/model.plan", "m/config.pbtxt"]
        assert path.read_bytes() == b"plan"
        assert PlanRecord.read(path.parent / "build.json") == RECORD
        assert (folder / "m").stat().st_mode & 0o777 == 0o755
        assert [each.name for each in folder.iterdir()] == ["m"]
        read_config(folder / "m/config.pbtxt", "m")

    def test_a_version_that_is_there_is_refused(self, tmp_path):
        ModelPlace(tmp_path, "m").write(PLAN)
        before = files(tmp_path)
        with pytest.raises(AlreadyExists, match=r"m/1 is there already.*--model-version.*--force"):
            ModelPlace(tmp_path, "m").write(OTHER)
        assert files(tmp_path) == before

    def test_another_version_leaves_the_configuration(self, tmp_path):
        ModelPlace(tmp_path, "m").write(PLAN)
        config = tmp_path / "m/config.pbtxt"
        config.write_text(f"# mine\n{config.read_text()}")
        ModelPlace(tmp_path, "m", 2).write(PLAN)
        assert config.read_text().startswith("# mine")
        assert sorted(each.name for each in (tmp_path / "m").iterdir()) == ["1", "2", "config.pbtxt"]

    def test_another_version_that_does_not_fit_is_refused(self, tmp_path):
        ModelPlace(tmp_path, "m").write(PLAN)
        before = files(tmp_path)
        with pytest.raises(
            FailedPrecondition,
            match=r"has outputs classes: TYPE_FP16\[10\], found.* and the plan classes: TYPE_FP32\[10\]",
        ):
            ModelPlace(tmp_path, "m", 2).write(OTHER)
        assert files(tmp_path) == before

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('backend: "onnxruntime"', "has backend 'onnxruntime'"),
            ('platform: "onnxruntime_onnx"', "has backend 'tensorrt', 'onnxruntime_onnx'"),
            ("max_batch_size: 4", "has max_batch_size 4, and the plan 8"),
        ],
    )
    def test_other_configurations_are_refused(self, tmp_path, text, message):
        (tmp_path / "m").mkdir()
        (tmp_path / "m/config.pbtxt").write_text(text)
        with pytest.raises(FailedPrecondition, match=message):
            ModelPlace(tmp_path, "m").write(PLAN)
        (tmp_path / "m/config.pbtxt").write_text("this is none")
        with pytest.raises(InvalidArgument, match="failed to read text proto"):
            ModelPlace(tmp_path, "m").write(PLAN)
        assert sorted(files(tmp_path)) == ["m/config.pbtxt"]
        ModelPlace(tmp_path, "m", replace=True).write(PLAN)
        assert read_config(tmp_path / "m/config.pbtxt", "m").max_batch_size == 8

    @pytest.mark.parametrize("text", ["", 'backend: "tensorrt"', "version_policy { all {} }"])
    def test_what_a_configuration_leaves_open_fits(self, tmp_path, text):
        (tmp_path / "m").mkdir()
        (tmp_path / "m/config.pbtxt").write_text(text)
        ModelPlace(tmp_path, "m").write(PLAN)
        assert (tmp_path / "m/config.pbtxt").read_text() == text

    def test_force_replaces_the_version_and_what_does_not_fit(self, tmp_path):
        ModelPlace(tmp_path, "m").write(PLAN)
        (tmp_path / "m/1/left.txt").write_text("of the old one")
        ModelPlace(tmp_path, "m", replace=True).write(OTHER)
        assert sorted(files(tmp_path)) == ["m/1/build.json", "m/1/model.plan", "m/config.pbtxt"]
        assert (tmp_path / "m/1/model.plan").read_bytes() == b"other"
        assert len(read_config(tmp_path / "m/config.pbtxt", "m").output) == 1

    def test_files_in_the_way(self, tmp_path):
        (tmp_path / "m").write_text("")
        with pytest.raises(FailedPrecondition, match="is there and no directory"):
            ModelPlace(tmp_path, "m").check()
        with pytest.raises(FailedPrecondition, match="is there and no directory"):
            ModelPlace(tmp_path / "m", "n").check()

    @pytest.mark.parametrize("there", [False, True])
    @pytest.mark.parametrize("call", ["write_bytes", "write_text", "rename"])
    def test_what_fails_leaves_everything_as_it_was(self, tmp_path, monkeypatch, there, call):
        if there:
            ModelPlace(tmp_path, "m").write(PLAN)
        before = files(tmp_path)
        original = getattr(Path, call)
        calls = []

        def fails(self, *arguments, **named):
            calls.append(self)
            if len(calls) == (2 if there and call == "rename" else 1):
                raise OSError(28, "No space left on device")
            return original(self, *arguments, **named)

        monkeypatch.setattr(Path, call, fails)
        with pytest.raises(OSError, match="No space left"):
            ModelPlace(tmp_path, "m", replace=True).write(OTHER)
        assert files(tmp_path) == before
        assert [each.name for each in tmp_path.iterdir()] == ["m"] * there
