"""Damaged files of tilts and tables are read, or refused in one line: no traceback, no hang, no memory without need."""

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryovae.errors import InputError
from cryovae.io.star.loading import checked_sizes
from cryovae.io.star.particles import read_particles
from cryovae.io.star.table import read_blocks
from cryovae.io.star.tomograms import read_tomograms
from cryovae.io.tilts import read_tilts
from cryovae.tomogram import TiltGeometry
from tests.conftest import write_mrc
from tests.helpers.warp import WARP
from tests.io.fuzz import TEXT, limited, mangled, survive

RANGE = TiltGeometry.from_range(-60, 60)
TLT = b"-60.0\n-30.0\n0.0\n30.0\n60.0\n"
COLUMNS = b"index, angle, dose\n1, -60.0, 12.4\n2, -30.0, 6.2\n3, 0.0, 0\n4, 30.0, 3.1\n5, 60.0, 9.3\n"
SEMICOLONS = b"1;-60,0\n2;-30,5\n3;0,0\n4;30,0\n"
XF = b"".join(b" 0.98 -0.19 0.19 0.98 %d.5 -0.8\n" % i for i in range(5))
XML = WARP.format(use="True\nTrue\nFalse\nTrue", level_x="1.5", level_y="0").encode()
ALN = b"""# AreTomo Alignment / Priims bprmMn
# RawSize = 2032 2032 5
# NumPatches = 1
# DarkFrame =     1    0   -66.00
# AlphaOffset =     0.00
# BetaOffset =     0.00
# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT
    1   -12.6611    1.00000     24.786     -2.677     1.00     1.00     1.00     0.00    -61.50
    2   -12.6611    1.00000     34.451     -8.599     1.00     1.00     1.00     0.00    -60.00
# Local Alignment
   0   0  -558.42   -802.00   -100.07     24.43   1.0
"""
ALN2 = ALN.replace(b"# AlphaOffset =     0.00\n# BetaOffset =     0.00\n", b"")
MDOC = b"""PixelSpacing = 5.4
Voltage = 300
ImageSize = 924 958

[T =     Tilt axis angle = 85.3, binning = 4  spot = 8  camera = 2]

[ZValue = 0]
TiltAngle = 0.001
StagePosition = 20.7936 155.287
ExposureDose = 0
SubFramePath = D:\\DATA\\TS_01_000_0.0.mrc

[ZValue = 1]
TiltAngle = 3.00113
PriorRecordDose = 3.1
FrameDosesAndNumber = 0.02 3  0.03 7
"""
SERIES = b"""data_TS_01

loop_
_rlnMicrographName #1
_rlnTomoNominalStageTiltAngle #2
_rlnTomoYTilt #3
_rlnTomoZRot #4
_rlnDefocusU #5
_rlnDefocusV #6
_rlnTomoProjX #7
_rlnTomoProjZ #8
a.mrc 0.1 9.02 85.2 39424.7 38845.8 [0.08,-0.99,0.01,3618] [-0.15,0,0.98,-1167]
b.mrc 3.1 12.02 85.2 39158.5 38873.5 [0.08,-0.99,0.01,3618] [-0.20,0,0.97,-1167]
"""
QUOTED = b"""data_
loop_
_rlnMicrographName #1
_rlnTomoYTilt #2 # degrees
"it's #1.mrc" -40.5 # a comment
'2 "b".mrc' "30"
"""
TABLE = b"""data_global

loop_
_rlnTomoName #1
_rlnTomoReconstructedTomogram #2
_rlnPixelSize #3
_rlnTiltMin #4
_rlnTiltMax #5
_rlnDefocus #6
_crvTilts #7
TS_01 one.mrc 10.0 -60 60 30000 None
'TS 02' two.mrc None None None None good.tlt
"""
MATRICES = SERIES.replace(b"_rlnTomoYTilt", b"_other").replace(b"_rlnTomoNominalStageTiltAngle", b"_another")
SEEDS = {
    "tlt": [TLT, COLUMNS, SEMICOLONS, TLT.decode().encode("utf-16")],
    "xf": [XF],
    "xml": [XML],
    "aln": [ALN, ALN2],
    "mdoc": [MDOC, MDOC.decode().encode("utf-16-le")],
    "star": [SERIES, MATRICES, QUOTED],
    "txt": [TLT, XML, ALN, SERIES, COLUMNS],
}
WORDS = [
    *TEXT,
    struct.pack("<f", 1.0),
    b"&a;",
    b"<!DOCTYPE a [<!ENTITY a 'aaaa'>]>",
    b"(" * 300,
    b"[" * 300,
    b"\nloop_\n",
    b"\ndata_\n",
    b",",
    b";",
    b"\x80",
    b"\xfe\xff",
    b"encoding='utf-16'",
]


def checked(examples):
    return settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def use_table(path):
    """What begins before any work: the table, the tilts of its rows, and the headers of their volumes."""
    read_blocks(path)
    checked_sizes(read_tomograms(path, RANGE))


PARTICLES = b"""data_optics

loop_
_rlnOpticsGroup #1
_rlnImagePixelSize #2
_rlnImageDimensionality #3
1 8.5 2

data_particles

loop_
_rlnTomoName #1
_rlnImageName #2
_rlnOpticsGroup #3
_rlnTomoVisibleFrames #4
TS_01 one.mrc 1 [1,0,1]
TS_01 two.mrc 1 [1,1,1]
"""
TOMOGRAMS = b"data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesStarFile #2\nTS_01 series.star\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("one", "two"):
        write_mrc(folder / f"{name}.mrc", np.arange(60, dtype=np.float32).reshape(3, 4, 5))
    (folder / "good.tlt").write_bytes(TLT)
    (folder / "damaged.rawtlt").write_bytes(TLT)
    for ending, seeds in SEEDS.items():
        for seed in seeds:
            # The libraries are loaded before time and memory are watched.
            (folder / f"damaged.{ending}").write_bytes(seed)
            read_tilts(folder / f"damaged.{ending}")
            assert survive(read_tilts, folder / f"damaged.{ending}", seed), ending
            (folder / "damaged.tlt").unlink(missing_ok=True)
    assert survive(use_table, folder / "table.star", TABLE)
    (folder / "tomograms.star").write_bytes(TOMOGRAMS)
    angles = "".join(f"{angle}\n" for angle in (-50, 0, 50))
    (folder / "series.star").write_text(f"data_a\n\nloop_\n_rlnTomoYTilt #1\n{angles}")
    assert survive(read_particles, folder / "particles.star", PARTICLES)
    return folder


ONE_OF = st.sampled_from(sorted(SEEDS)).flatmap(
    lambda ending: st.tuples(st.just(ending), mangled(SEEDS[ending], WORDS, 600) | st.binary(max_size=300))
)


def tilts(folder, case):
    ending, content = case
    read = survive(read_tilts, folder / f"damaged.{ending}", content)
    (folder / "damaged.tlt").unlink(missing_ok=True)
    return read


@checked(200)
@given(case=ONE_OF)
def test_damaged_tilts_are_read_or_refused(place, case):
    tilts(place, case)


@checked(80)
@given(content=mangled([TABLE], WORDS, 600))
def test_damaged_tables_are_read_or_refused(place, content):
    survive(use_table, place / "table.star", content)


@checked(80)
@given(content=mangled([PARTICLES], WORDS, 600))
def test_damaged_particle_tables_are_read_or_refused(place, content):
    survive(read_particles, place / "particles.star", content)


@checked(60)
@given(content=mangled([TOMOGRAMS], WORDS, 600))
def test_particles_of_damaged_tomograms_are_read_or_refused(place, content):
    """Here the damage is not in the file that is read, so that the line may name another."""
    (place / "tomograms.star").write_bytes(content)
    with suppress(InputError), limited():
        read_particles(place / "particles.star")


@pytest.mark.slow
@checked(7_000)
@given(case=ONE_OF)
def test_seven_thousand_damaged_tilts(place, case):
    tilts(place, case)


@pytest.mark.slow
@checked(3_000)
@given(content=mangled([TABLE], WORDS, 600))
def test_three_thousand_damaged_tables(place, content):
    survive(use_table, place / "table.star", content)


def test_the_damage_leaves_some_files_readable_and_not_all(place):
    """One in ten, about: so few that of a hundred it may be any number from a few to many."""
    readable = []

    @checked(400)
    @given(case=ONE_OF)
    def count(case):
        readable.append(tilts(place, case))

    count()
    assert 0.02 < np.mean(readable) < 0.98


def test_an_xml_that_grows_without_end_is_refused(place):
    """Each entity is ten of the one before: a few hundred bytes would be gigabytes."""
    entities = "".join(f"<!ENTITY e{i} '{''.join([f'&e{i - 1};'] * 10)}'>" for i in range(1, 11))
    text = f"<!DOCTYPE t [<!ENTITY e0 '1234567890'>{entities}]><TiltSeries><Angles>&e10;</Angles></TiltSeries>"
    assert not survive(read_tilts, place / "damaged.xml", text.encode())
