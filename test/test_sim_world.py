"""The simulated tabletop: its arm, its motion, its images."""

from __future__ import annotations

import dataclasses
import itertools
from xml.etree import ElementTree

import numpy as np
import pytest

from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError
from robovlm_ros.sim.kinematics import ArmKinematics
from robovlm_ros.sim.model import ARM_JOINTS, URDF
from robovlm_ros.sim.tasks import COLOURS, Block
from robovlm_ros.sim.world import JOINTS, Tabletop

DOWN = np.array([1.0, 0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract.load("tabletop")


@pytest.fixture(scope="module")
def world(contract: Contract) -> Tabletop:
    return Tabletop(contract)


def go(world: Tabletop, position: list[float], seconds: float, gripper: float = 1.0) -> None:
    world.command(np.array([*position, gripper]))
    world.step(seconds)


def test_the_urdf_holds_the_contracts_joints_and_camera_frames(contract: Contract) -> None:
    root = ElementTree.parse(URDF).getroot()
    moving = {joint.get("name") for joint in root.findall("joint") if joint.get("type") != "fixed"}
    links = {link.get("name") for link in root.findall("link")}
    assert set(contract.state[0].dims) <= moving
    assert set(JOINTS) == set(contract.state[0].dims)
    assert {camera.frame for camera in contract.cameras} <= links
    assert {"base_link", "tool", "camera_link", "wrist_camera_link"} <= links


def test_every_link_of_the_urdf_that_moves_has_mass_and_a_possible_inertia() -> None:
    root = ElementTree.parse(URDF).getroot()
    moved = {joint.find("child").get("link") for joint in root.findall("joint") if joint.get("type") != "fixed"}  # type: ignore[union-attr]
    for link in root.findall("link"):
        inertia = link.find("inertial/inertia")
        if link.get("name") in moved:
            assert inertia is not None, link.get("name")
            x, y, z = sorted(float(inertia.get(key, "nan")) for key in ("ixx", "iyy", "izz"))
            assert 0 < x <= y <= z <= x + y, link.get("name")


def test_inverse_kinematics_reaches_every_corner_of_the_workspace(contract: Contract) -> None:
    arm = ArmKinematics()
    for corner in itertools.product(*contract.limits[:3]):
        joints = arm.reach(np.array(corner), DOWN)
        np.testing.assert_allclose(arm.position(joints), corner, atol=1e-4)


def test_the_tool_settles_where_it_is_sent_with_the_fingers_down_and_no_overshoot(world: Tabletop) -> None:
    world.reset(1)
    go(world, [0.30, -0.20, 0.20], 2.0)
    heights = []
    world.command(np.array([0.30, -0.20, 0.10, 1.0]))
    for _ in range(50):
        world.step(0.02)
        heights.append(world.tool_position[2])
    assert min(heights) > 0.10 - 5e-4
    assert next(i for i, z in enumerate(heights) if z < 0.10 + 0.1 / np.e) * 0.02 < 0.2  # 63 % of the way
    np.testing.assert_allclose(world.tool_position, [0.30, -0.20, 0.10], atol=1e-3)
    np.testing.assert_allclose(np.abs(world.tool_orientation), DOWN, atol=5e-3)


def test_the_arm_crosses_the_whole_workspace_through_the_air(world: Tabletop, contract: Contract) -> None:
    world.reset(2)
    low, high = contract.limits[:3].T
    lifted = low + np.array([0.0, 0.0, 0.04])  # above the blocks
    for corner in itertools.product(*zip(lifted, high, strict=True)):
        go(world, list(corner), 2.5)
        np.testing.assert_allclose(world.tool_position, corner, atol=2e-3)


def test_the_position_is_held_when_commands_stop(world: Tabletop) -> None:
    world.reset(3)
    go(world, [0.40, 0.10, 0.20], 3.0)
    before = world.joint_positions
    world.step(10.0)
    np.testing.assert_allclose(world.joint_positions, before, atol=1e-5)


def test_the_gripper_opens_and_closes(world: Tabletop) -> None:
    world.reset(4)
    for value, opening in ((0.0, 0.0), (1.0, 0.04)):
        go(world, world.tool_position.tolist(), 0.6, gripper=value)
        assert world.joint_positions[-1] == pytest.approx(opening, abs=2e-3)
        assert world.target[-1] == value


def test_commands_beyond_the_limits_are_brought_within_them(world: Tabletop, contract: Contract) -> None:
    world.reset(5)
    world.command(np.array([9.0, -9.0, -9.0, 1.0]))
    np.testing.assert_allclose(world.target[:3], [0.60, -0.30, 0.02])


@pytest.mark.parametrize("values", [[0.3, 0.0, np.nan, 1.0], [0.3, 0.0, np.inf, 1.0], [0.3, 0.0, 0.2]])
def test_an_unusable_command_changes_nothing(world: Tabletop, values: list[float]) -> None:
    world.reset(6)
    before = world.target
    with pytest.raises(ValueError, match="4 finite values"):
        world.command(np.array(values))
    np.testing.assert_array_equal(world.target, before)


def test_the_same_seed_gives_the_same_scene_and_byte_identical_images(contract: Contract, world: Tabletop) -> None:
    world.reset(123)  # whatever happened before
    go(world, [0.5, 0.1, 0.1], 0.7)
    other = Tabletop(contract)
    for seed in (7, 8):
        images = []
        for scene in (world, other):
            scene.reset(seed)
            go(scene, [0.4, 0.0, 0.15], 0.5)
            images.append([scene.render(camera.name).tobytes() for camera in contract.cameras])
            assert len(set(images[-1])) == 2
        assert images[0] == images[1]
        np.testing.assert_array_equal(world.joint_positions, other.joint_positions)


def test_different_seeds_give_different_scenes(world: Tabletop) -> None:
    images = set()
    for seed in range(10):
        world.reset(seed)
        images.add(world.render("static").tobytes())
    assert len(images) == 10


def test_simulated_time_only_grows(world: Tabletop) -> None:
    begin = world.time_ns
    world.step(0.1)
    world.reset(1)
    world.step(0.1)
    assert world.time_ns - begin == 200_000_000


def test_scenes_hold_three_blocks_of_different_colours_apart_and_in_view(world: Tabletop) -> None:
    rng = np.random.default_rng(0)
    for seed in range(50):
        world.reset(seed) if seed % 2 else world.randomise(rng)
        assert len({block.colour for block in world.blocks} & set(COLOURS)) == 3
        centres = np.array([block.position for block in world.blocks])
        gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(centres, 2)]
        assert min(gaps) >= 0.09
        corners = centres[:, None] + np.array(list(itertools.product([-0.02, 0.02], repeat=3)))
        pixels = world.project("static", corners.reshape(-1, 3))
        assert (pixels > 0).all()
        assert (pixels < 96).all()
        widths = np.ptp(pixels.reshape(3, 8, 2)[..., 0], axis=1)
        assert widths.min() >= 7


@pytest.mark.parametrize("size", [(96, 96), (320, 320)])
def test_a_block_is_seen_in_its_colour_where_projection_says_it_is(world: Tabletop, size: tuple[int, int]) -> None:
    seen = []
    for seed in range(12):
        world.reset(seed)
        go(world, [0.2, 0.0, 0.38], 1.5)  # out of the camera's way
        image = world.render("static", *size).astype(int)
        for block in world.blocks:
            top = block.position + np.array([0.0, 0.0, 0.02])
            column, row = np.floor(world.project("static", top[None], *size)[0]).astype(int)
            red, green, blue = image[row, column]
            looks = {
                "red": red > 1.6 * max(green, blue),
                "green": green > 1.6 * max(red, blue),
                "blue": blue > 1.6 * max(red, green),
                "yellow": min(red, green) > 1.6 * blue,
            }
            seen.append(looks[block.colour] and sum(looks.values()) == 1)
    assert all(seen)


def test_randomised_scenes_move_nothing_and_show_varied_light(world: Tabletop) -> None:
    world.randomise(np.random.default_rng(5))
    time_ns, tool = world.time_ns, world.tool_position
    assert world.project("static", tool[None]).shape == (1, 2)
    corner = set()
    for seed in range(8):
        world.randomise(np.random.default_rng(seed))
        corner.add(tuple(world.render("static")[-1, 0]))
    assert len(corner) > 4
    assert world.time_ns == time_ns


def test_the_wrist_camera_looks_between_the_fingers(world: Tabletop) -> None:
    world.reset(9)
    column, row = world.project("wrist", world.tool_position[None])[0]
    assert column == pytest.approx(32, abs=0.5)
    assert 28 < row < 52


def test_films_can_be_larger_and_from_a_camera_that_shows_the_whole_arm(world: Tabletop) -> None:
    assert world.render("overview").shape == (320, 320, 3)
    assert world.render("static", 160, 120).shape == (120, 160, 3)
    with pytest.raises(UserError, match="cameras: overview, static, wrist"):
        world.render("left")


def test_a_contract_may_command_the_joints_instead(contract: Contract) -> None:
    arm, gripper = contract.commands
    dims = tuple(dataclasses.replace(arm.dims[0], name=name, unit="rad", limits=(-3.0, 3.0)) for name in ARM_JOINTS)
    joints = dataclasses.replace(arm, type="sensor_msgs/msg/JointState", dims=dims)
    world = Tabletop(dataclasses.replace(contract, commands=(gripper, joints)))
    goal = np.array([0.3, 0.2, 0.4, -0.6, 0.1, 0.3])
    world.command(np.array([0.0, *goal]))
    world.step(2.0)
    np.testing.assert_allclose(world.joint_positions, [*goal, 0.0], atol=2e-3)


def test_contracts_of_other_robots_are_refused_with_the_valid_choices(contract: Contract) -> None:
    arm, gripper = contract.commands
    foreign = dataclasses.replace(arm, dims=(dataclasses.replace(arm.dims[0], name="wheel"), *arm.dims[1:]))
    with pytest.raises(UserError, match="takes the actions x, y, z or joint_1"):
        Tabletop(dataclasses.replace(contract, commands=(foreign, gripper)))
    with pytest.raises(UserError, match="frames: camera_optical_frame"):
        Tabletop(dataclasses.replace(contract, cameras=(dataclasses.replace(contract.cameras[0], frame="mast"),)))
    with pytest.raises(UserError, match="rate_hz 30"):
        Tabletop(dataclasses.replace(contract, rate_hz=30.0))


def test_blocks_are_put_elsewhere_by_their_colour_and_an_unknown_one_is_refused(contract: Contract) -> None:
    world = Tabletop(contract)
    world.reset(0)
    world.step(0.1)
    first, second, *others = world.blocks
    exchanged = [Block(first.colour, second.position, second.orientation), Block(second.colour, first.position)]
    world.move(exchanged)
    world.step(0.2)
    moved = {block.colour: block.position for block in world.blocks}
    np.testing.assert_allclose(moved[first.colour], second.position, atol=2e-3)
    np.testing.assert_allclose(moved[second.colour], first.position, atol=2e-3)
    for block in others:
        np.testing.assert_allclose(moved[block.colour], block.position, atol=2e-3)
    with pytest.raises(UserError, match="there is no purple block"):
        world.move([Block("purple", first.position)])
