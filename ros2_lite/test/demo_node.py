"""A node with something of everything, for the tests of the ros2 command: it runs as a process of its own."""

import contextlib

import rclpy
from example_interfaces.action import Fibonacci
from lifecycle_msgs.msg import State, Transition, TransitionDescription
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool


class Demo(Node):
    def __init__(self):
        super().__init__("demo", namespace="/lab")
        limits = FloatingPointRange(from_value=0.0, to_value=4.0, step=0.5)
        self.declare_parameter("gain", 1.5, ParameterDescriptor(description="[1]", floating_point_range=[limits]))
        self.declare_parameter("limits.lower", [-1.0, 2.0])
        self.chatter = self.create_publisher(String, "chatter", 10)
        self.image = self.create_publisher(Image, "/camera/image_raw", 10)
        self.joints = self.create_publisher(JointState, "_hidden/joints", 10)
        self.create_subscription(String, "heard", lambda m: print("heard", m.data), 10)
        self.create_service(SetBool, "enable", self.enable)
        self.create_timer(0.02, self.tick)
        self.state = State(id=1, label="unconfigured")
        self.create_service(GetState, "demo/get_state", self.tell_state)
        self.create_service(GetAvailableTransitions, "demo/get_available_transitions", self.tell_transitions)
        self.create_service(ChangeState, "demo/change_state", self.change_state)
        self.stopped = Future()
        self.counting = ActionServer(
            self,
            Fibonacci,
            "count",
            self.count,
            goal_callback=lambda goal: GoalResponse.ACCEPT if goal.order < 100 else GoalResponse.REJECT,
            cancel_callback=self.stop,
        )
        print("ready")

    def enable(self, request, response):
        response.success, response.message = request.data, f"data is {request.data}"
        return response

    async def count(self, goal):
        if goal.request.order > 10:
            await self.stopped
            goal.canceled()
            return Fibonacci.Result()
        goal.publish_feedback(Fibonacci.Feedback(sequence=[0]))
        goal.succeed()
        return Fibonacci.Result(sequence=range(goal.request.order))

    def stop(self, goal):
        self.stopped.set_result(None)
        return CancelResponse.ACCEPT

    def tell_state(self, request, response):
        response.current_state = self.state
        return response

    def tell_transitions(self, request, response):
        configure = Transition(id=1, label="configure")
        goal = State(id=2, label="inactive")
        response.available_transitions = [
            TransitionDescription(transition=configure, start_state=self.state, goal_state=goal)
        ]
        return response

    def change_state(self, request, response):
        response.success = request.transition.id == 1 and self.state.id == 1
        self.state = State(id=2, label="inactive")
        return response

    def tick(self):
        self.chatter.publish(String(data="hello"))
        image = Image(height=480, width=640, encoding="rgb8", step=1920, data=bytes(921600))
        image.header.frame_id = "lens"
        image.header.stamp = self.get_clock().now().to_msg()
        self.image.publish(image)


rclpy.init()
with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(Demo())
