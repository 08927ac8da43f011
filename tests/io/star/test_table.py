"""STAR files come through as they were, to the letter, and are never written over what was read."""

import pytest
import starfile

from cryovae.errors import InputError
from cryovae.io.star.table import Block, read_blocks, write_blocks

TEXT = """
# version 50001

data_general

_rlnTomoSubTomosAre2DStacks                       1

data_rows
loop_
_rlnTomoName #1
_rlnPixelSize #2
_rlnComment #3
001 5.400000 'two words'
1e3 None ""
"""


def test_values_are_kept_as_text(tmp_path):
    (tmp_path / "a.star").write_text(TEXT)
    blocks = read_blocks(tmp_path / "a.star")
    assert blocks["general"] == Block({"rlnTomoSubTomosAre2DStacks": ("1",)}, loop=False)
    rows = blocks["rows"]
    assert rows.columns["rlnTomoName"] == ("001", "1e3")
    assert rows.columns["rlnComment"] == ("two words", "")
    assert rows.text("rlnPixelSize", 1) is None
    assert rows.number("rlnPixelSize", 0, tmp_path / "a.star") == 5.4
    assert rows.numbers("rlnPixelSize", tmp_path / "a.star") is None
    with pytest.raises(InputError, match=r"a\.star row 1 has rlnComment 'two words', expected a number"):
        rows.number("rlnComment", 0, tmp_path / "a.star")


def test_every_shared_star_file_comes_through_a_round_trip(shared, tmp_path):
    files = sorted((shared / "star").glob("*.star"))
    assert len(files) > 30
    for path in files:
        blocks = read_blocks(path)
        write_blocks(tmp_path / "again.star", blocks, source=path)
        assert read_blocks(tmp_path / "again.star") == blocks, path.name
        # What another program makes of the two files is the same too: starfile's own reading, with numbers as numbers.
        first, second = (starfile.read(file, always_dict=True) for file in (path, tmp_path / "again.star"))
        assert first.keys() == second.keys()
        for name, block in first.items():
            same = block.equals(second[name]) if hasattr(block, "equals") else block == second[name]
            assert same, (path.name, name)


def test_it_is_never_written_in_place(tmp_path):
    (tmp_path / "a.star").write_text(TEXT)
    (tmp_path / "b.star").symlink_to(tmp_path / "a.star")
    blocks = read_blocks(tmp_path / "a.star")
    for target in ("a.star", "b.star", "../" + tmp_path.name + "/a.star"):
        with pytest.raises(InputError, match="never written in place"):
            write_blocks(tmp_path / target, blocks, source=tmp_path / "a.star")
    assert (tmp_path / "a.star").read_text() == TEXT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no data block"),
        (b"just words\n", "no data block"),
        (b"data_\n", "cannot be read as STAR"),
        (b"data_\nloop_\n_a #1\n_b #2\n1 2\n3\n4 5 6\n", "cannot be read as STAR"),
        (b"data_\nloop_\n_a #1\n_a #2\n1 2\n", "cannot be read as STAR"),
        (b"\xff\xfe\0data_", "no text file"),
        (bytes(1000), "no text file"),
    ],
)
def test_what_is_no_star_file_is_refused_in_one_line(tmp_path, content, words):
    (tmp_path / "bad.star").write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_blocks(tmp_path / "bad.star")
    assert "bad.star" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        read_blocks(tmp_path / "none.star")
