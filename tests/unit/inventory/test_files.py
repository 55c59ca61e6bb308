"""Reading a directory of YAML files."""

from pathlib import Path

import pytest

from serai.inventory import files
from serai.inventory.files import UnusableDirectoryError, load, read_directory
from serai.model.definitions import DefinitionErrors


def test_files_come_by_relative_name_in_order(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "sub/c.yaml", "notes.txt", ".hidden.yaml", ".git/d.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(read_directory(tmp_path).items()) == [(n, n) for n in ("a.yaml", "b.yml", "sub/c.yaml")]


def test_links_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    outside = tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.yaml").write_text("secret")
    (inside / "a.yaml").write_text("a")
    (inside / "b.yaml").symlink_to("a.yaml")
    (inside / "c.yaml").symlink_to(outside / "secret.yaml")
    (inside / "d.yaml").symlink_to("nowhere")
    (inside / "sub").symlink_to(outside)
    assert read_directory(inside) == {"a.yaml": "a", "b.yaml": "a"}


def test_directories_without_anything_to_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, problem in (("file", "is not a directory"), ("none", "does not exist"), ("", "holds no YAML")):
        with pytest.raises(UnusableDirectoryError, match=problem):
            read_directory(tmp_path / path)


def test_a_file_has_a_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.yaml").write_text("#" * 11)
    with pytest.raises(UnusableDirectoryError, match="too much"):
        read_directory(tmp_path)


def test_errors_name_files_from_where_the_reader_stands(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"ok: yes\n# \xff\n")
    with pytest.raises(DefinitionErrors) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}/a.yaml:2: byte 0xff is not UTF-8 text"
