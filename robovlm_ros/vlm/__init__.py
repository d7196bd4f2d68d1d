"""The action-token VLM: backbone, action token, heads, processor.

Importing it makes the policy known to transformers: `AutoConfig` and `AutoModel` then load its folders.
"""

from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy

__all__ = ["ActionTokenConfig", "ActionTokenPolicy"]
