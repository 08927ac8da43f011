"""The site file: what it documents is what there is, what is unknown is refused, and what a job asks for follows from it."""

import shlex
import tomllib

import pytest

from cryovae.batch.engine import PROFILES, executor_of
from cryovae.batch.site import TEMPLATE, Site, as_plain, read_site, site_of
from cryovae.errors import InputError


def test_the_template_documents_every_setting_at_its_usual_value():
    assert tomllib.loads(TEMPLATE.read_text()) == as_plain(Site())


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"partiton": "gpu"}, "did you mean 'partition'"), ({"cpus": "8"}, "expected int"), ({"modules": "cuda"}, "list of texts")],
)
def test_what_is_not_understood_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        site_of(settings, "site.toml")


def test_what_a_job_asks_for(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('partition = "gpu"\ncpu_partition = "short"\naccount = "emlab"\ngpu_type = "a100"\ntrain_hours = 3\n')
    site = read_site(path)
    on_gpu, on_cpu = site.resources(site.train_hours, True), site.resources(0.5, False)
    assert on_gpu["runtime"] == 180
    assert (on_gpu["slurm_partition"], on_gpu["gpu"], on_gpu["gpu_model"]) == ("gpu", 1, "a100")
    assert (on_cpu["slurm_partition"], on_cpu["runtime"]) == ("short", 30)
    assert "gpu" not in on_cpu
    assert "qos" not in on_gpu


def test_the_step_takes_the_place_of_its_shell_and_odd_names_are_quoted():
    site = Site(modules=("cuda/12.4",), container="/apps/a b.sif")
    command = site.step("restore", ["/out", "--row", "ts 1;rm"], "/out/log")
    before, _, after = command.partition("exec ")
    assert before == "module load cuda/12.4; "
    assert shlex.split(after)[:4] == ["apptainer", "exec", "--nv", "/apps/a b.sif"]
    assert "ts 1;rm" in shlex.split(after)


def test_profiles_are_there():
    assert {path.name: executor_of(path) for path in PROFILES.iterdir()} == {"local": "local", "slurm": "slurm"}
