"""What goes wrong in the simulated cloud because a test ordered it: lost answers, slow calls, old readings, operations
that fail.

Orders are kept apart from the world so that the world itself stays right: a fault lies about what happened, or stops
it, but never bends a rule.
"""

from dataclasses import dataclass

from providers.errors import Temporary

CALLS = (
    "resolve",
    "observe",
    "begin",
    "poll",
    "release",
    "measure",
    "invoke",
    "keys",
    "regenerate",
    "token",
    "logs",
    "save_logs",
)
KINDS = ("put_endpoint", "put_deployment", "scale", "set_traffic", "delete_deployment", "delete_endpoint")


@dataclass(slots=True)
class Fault:
    """An ordered error: raised by the next `times` calls, before or after they took effect."""

    operation: str
    error: BaseException | type[BaseException]
    times: int
    after_effect: bool

    def make(self) -> BaseException:
        """The error to raise."""
        if isinstance(self.error, BaseException):
            return self.error
        return self.error(f"The simulated call {self.operation} failed by order.")


class Faults:
    """Orders, each for a call ("begin", "observe", ...) or for `begin` of one kind of action ("set_traffic", ...)."""

    def __init__(self) -> None:
        self.staleness = 0.0
        self._faults: list[Fault] = []
        self._delays: list[list[float | str]] = []
        self._spoils: list[tuple[str, str, bool]] = []

    def fail_next(
        self,
        operation: str,
        error: BaseException | type[BaseException] = Temporary,
        *,
        times: int = 1,
        after_effect: bool = False,
    ) -> None:
        """The next `times` calls raise `error`: before they take effect, or after it, as when the answer is lost.

        Raises ValueError when there is no such call.
        """
        _known(operation, CALLS + KINDS)
        self._faults.append(Fault(operation, error, times, after_effect))

    def delay(self, operation: str, seconds: float, *, times: int = 1) -> None:
        """The next `times` calls take that much longer, before they do anything. Raises ValueError when there is no
        such call.
        """
        _known(operation, CALLS + KINDS)
        self._delays.append([operation, seconds, times])

    def spoil(self, kind: str, reason: str, *, permanent: bool = True) -> None:
        """The next operation of that kind begins well and ends Failed, without its effect. Raises ValueError when there
        is no such kind.
        """
        _known(kind, KINDS)
        self._spoils.append((kind, reason, permanent))

    def stale(self, seconds: float) -> None:
        """From now on `observe` shows the world as it was that long ago; 0 makes it true again."""
        self.staleness = seconds

    def take_fault(self, names: tuple[str, ...]) -> Fault | None:
        """The error ordered for a call that goes by any of these names, used up by one."""
        for fault in self._faults:
            if fault.operation in names and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def take_delay(self, names: tuple[str, ...]) -> float:
        """Seconds that this call is slower, used up by one."""
        for order in self._delays:
            operation, seconds, times = order
            if operation in names and float(times) > 0:
                order[2] = float(times) - 1
                return float(seconds)
        return 0.0

    def take_spoil(self, kind: str) -> tuple[str, bool] | None:
        """Reason and permanence of the failure ordered for an operation of this kind."""
        for order in self._spoils:
            if order[0] == kind:
                self._spoils.remove(order)
                return order[1], order[2]
        return None


def _known(operation: str, names: tuple[str, ...]) -> None:
    if operation not in names:
        raise ValueError(f"There is no call {operation} to order a fault for; there are {', '.join(names)}.")
