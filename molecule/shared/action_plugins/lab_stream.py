# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a program on the controller and show its standard error as it comes: minutes of silence look like a hang.

Standard output is one JSON object with `changed`, a list or a boolean; it becomes `result`.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        argv = [str(part) for part in self._task.args["argv"]]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                display.display(f"  {line.rstrip()}")
            answer = process.stdout.read()
        if process.returncode != 0:
            raise AnsibleActionFail(f"{argv[1]} exited {process.returncode}:\n{''.join(said[-40:])}")
        result = json.loads(answer)
        return {"changed": bool(result["changed"]), "result": result}
