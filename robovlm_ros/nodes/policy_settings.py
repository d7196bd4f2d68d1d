"""Parameters of the policy node."""

from __future__ import annotations

from dataclasses import dataclass

from robovlm_ros.checkpoints import ATTENTIONS, DTYPES, PRECISIONS
from robovlm_ros.contract import Contract
from robovlm_ros.nodes.parameters import choice, fixed, limited
from robovlm_ros.runtime.strategies import STRATEGIES, Strategy, make_strategy


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Parameters of the policy node."""

    checkpoint: str = fixed("tabletop")
    """Folder of a policy checkpoint, or the name of a shipped one."""
    contract: str = fixed("")
    """Contract of the robot, a YAML file or a shipped name; empty: the one that the policy was trained with."""
    device: str = choice("auto", ("auto", "cpu", "cuda"), fixed=True)
    """Where inference runs; auto: on a GPU if there is one."""
    threads: int = limited(1, 1, 256, fixed=True)
    """CPU threads of inference."""
    dtype: str = choice("auto", DTYPES, fixed=True)
    """Type of the VLM's weights; auto: as in the checkpoint."""
    attention: str = choice("auto", ATTENTIONS, fixed=True)
    """How the VLM's attention is computed; auto: by what transformers takes for it."""
    fast: str = fixed("auto")
    """What is computed the fast way; auto: what equals the plain forward when the node starts; off: nothing; or names
    out of images, vision, text, head, or graph (all as one program), which then must equal it."""
    precision: str = choice("auto", PRECISIONS, fixed=True)
    """How the text tower multiplies; auto: in the type of its weights; int8 or float8: faster, and a little off."""
    instruction: str = fixed("")
    """What to do from the start, until another instruction comes; empty: wait for one."""
    autostart: bool = fixed(True)
    """Configure and activate the node when it starts; else whoever manages its lifecycle does."""
    lockstep: bool = fixed(False)
    """Answer each observation with exactly one command, for a simulator that waits for it."""
    realtime_priority: int = limited(50, 0, 99, fixed=True)
    """Real-time priority (SCHED_FIFO) of the thread that sends commands, where the user may have one; 0: none."""
    max_chunk_age_s: float = limited(1.0, 0.02, 60.0, fixed=True)
    """The robot holds when the newest decision rests on an observation older than this [s]."""
    emergency_stop_topic: str = fixed("/emergency_stop")
    """Topic (std_msgs/Bool) on which true, latched or not, stops the robot until ~/reset; empty: the service only."""
    dead_man_topic: str = fixed("")
    """Topic (std_msgs/Bool) that must go on saying true for commands to be sent; empty: none."""
    dead_man_timeout_s: float = limited(0.3, 0.02, 10.0, fixed=True)
    """The robot holds when the dead-man's topic has not said true for this time [s]."""
    dry_run: bool = fixed(False)
    """Send commands to ~/dry_run/NAME instead of their topics, for a look at what would be sent."""
    strategy: str = choice("first", STRATEGIES)
    """How decisions become commands: first: the newest alone; receding: of each its first execute_steps actions;
    ensemble: a weighted mean of all that reach to now; blend: each new one takes over within blend_s; rtc: each goes on
    from what the one before has committed, for heads flow and diffusion."""
    execute_steps: int = limited(4, 1, 1000)
    """Of strategy receding: actions of a chunk that are executed before the next chunk [steps]."""
    ensemble_decay: float = limited(0.01, 0.0, 10.0)
    """Of strategy ensemble: by how much a decision weighs less than the one before it (exponent)."""
    blend_s: float = limited(0.2, 0.0, 5.0)
    """Of strategy blend: time in which a new decision takes over [s]."""
    rtc_guidance: float = limited(5.0, 0.0, 100.0)
    """Of strategy rtc: by how much a decision is drawn towards the one before it, at most."""
    inference_delay_s: float = limited(0.0, 0.0, 10.0)
    """Time by which each inference is made longer, computing, to see how a robot copes [s]."""
    statistics_period_s: float = limited(10.0, 0.5, 3600.0)
    """Time between two lines of statistics in the log [s]."""

    def strategy_for(self, contract: Contract) -> Strategy:
        """The strategy that these settings name."""
        return make_strategy(
            self.strategy,
            step_ns=contract.step_ns,
            execute_steps=self.execute_steps,
            ensemble_decay=self.ensemble_decay,
            blend_s=self.blend_s,
            rtc_guidance=self.rtc_guidance,
        )
