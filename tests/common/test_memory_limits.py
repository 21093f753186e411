"""The memory that can still be used is the least of the machine's and what any group above the process allows."""

from vitreid.common.memory_limits import available_memory, left_in_groups


def group(folder, version, limit, used, droppable=0):
    names = {
        "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        "v2": ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 10\n{names[2]} {droppable}\nactive_file 7\n")


def left(text, root):
    return list(left_in_groups(text, root))


def test_some_memory_is_available():
    assert 1e7 < available_memory() < 1e14


def test_the_limit_of_a_container_is_at_the_root(tmp_path):
    group(tmp_path, "v2", 1000, 700, droppable=500)
    assert left("0::/\n", tmp_path) == [800]  # files kept in memory for as long as nobody needs it are not in use


def test_the_limit_of_a_batch_job_is_further_down(tmp_path):
    group(tmp_path / "slurm/job_7", "v2", 1000, 600)
    group(tmp_path / "slurm/job_7/step_0", "v2", "max", 600)
    group(tmp_path / "slurm", "v2", 5000, 4900)
    assert left("0::/slurm/job_7/step_0\n", tmp_path) == [400, 100]


def test_groups_of_the_first_version(tmp_path):
    text = "3:cpuset:/\n4:cpu,memory:/docker/abc\n0::/\n"
    group(tmp_path / "memory", "v1", 1000, 300, droppable=100)  # the container's own: the path is the one outside
    assert left(text, tmp_path) == [800]
    group(tmp_path / "memory/docker/abc", "v1", 2**63 - 4096, 300)
    assert min(left(text, tmp_path)) == 800


def test_a_machine_without_groups(tmp_path):
    assert left("", tmp_path) == [] and left("0::/\n", tmp_path) == []
