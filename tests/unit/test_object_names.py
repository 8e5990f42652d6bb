"""Whose an object is can be read from its name, and what is not named so is nobody's."""

import pytest

from gateway.tasks.naming import object_name, owner_of
from tests.factories import a_key, a_task, a_tenant


def test_a_name_tells_whose_it_is() -> None:
    task = a_task(a_key(a_tenant()))
    name = object_name(task, 3, "01k7zq5v9hm3x8c2r6t4w0y1ab", "wav")
    assert name == f"{task.tenant_id}/{task.id}/3-01k7zq5v9hm3x8c2r6t4w0y1ab.wav"
    assert owner_of(name) == (task.tenant_id, task.id)


def test_each_try_to_store_a_clip_has_a_name_of_its_own() -> None:
    task = a_task(a_key(a_tenant()))
    names = [object_name(task, 0, "a1", "wav", number) for number in (1, 2, 3)]
    assert [name.rpartition("/")[2] for name in names] == ["0-a1.wav", "0-a1-2.wav", "0-a1-3.wav"]
    assert {owner_of(name) for name in names} == {(task.tenant_id, task.id)}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "readme.txt",
        "ten_1/task_1",
        "ten_1/task_1/0.wav",
        "ten_1/task_1/0-a",
        "ten_1/task_1/0-a.wav/more",
        "more/ten_1/task_1/0-a.wav",
        "ten_1/job_1/0-a.wav",
        "team/task_1/0-a.wav",
        "ten_1/task_1/x-a.wav",
        "ten_1/task_1/0-a-.wav",
        "ten_1/task_1/0-a-2-3.wav",
        "ten_1/task_1/0-A.wav",
        "ten_1/task_1/0-a.wav\n",
        "ten_1/task_1/٣-a.wav",
        "ten_\udcff/task_1/0-a.wav",
    ],
)
def test_another_name_is_nobodys(name: str) -> None:
    assert owner_of(name) is None
