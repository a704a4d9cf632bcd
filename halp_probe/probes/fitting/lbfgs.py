"""Many regularised linear models minimised side by side, two matrix products an iteration.

Legend: N rows, D width, F problems (those not yet solved), M remembered steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from halp_probe.probes.fitting.losses import Loss
from halp_probe.probes.fitting.preconditioner import Preconditioner
from halp_probe.probes.fitting.scaling import ScaledInputs

_MEMORY = 10  # M
_PATIENCE = 20  # iterations without progress after which rounding is taken to be the reason
_ROUNDS = 8  # Newton steps of one line search
_HALVINGS = 12


@dataclass(frozen=True, kw_only=True)
class Problems:
    """Problems to minimise: the sum over rows of weight × loss, plus half the squared length of the coefficients."""

    sets: Any  # [F] int, row of the design
    weight: Any  # [F, N] C in the training set, 0 outside
    sign: Any  # [N] -1 or +1

    def keep(self, keep: Any) -> Problems:
        """Return the problems of the mask `keep`."""
        return replace(self, sets=self.sets[keep], weight=self.weight[keep])


@dataclass(frozen=True, kw_only=True)
class Optima:
    """Optima, or where the iterations ended."""

    coef: np.ndarray  # [F, D] float64
    intercept: np.ndarray  # [F] float64
    gradient_norm: np.ndarray  # [F] float64
    converged: np.ndarray  # [F] bool
    iterations: np.ndarray  # [F] int

    @classmethod
    def at(cls, coef: np.ndarray, intercept: np.ndarray) -> Optima:
        """Return the points where iterations begin: nothing is solved."""
        count = len(coef)
        return cls(
            coef=coef,
            intercept=intercept,
            gradient_norm=np.zeros(count),
            converged=np.zeros(count, bool),
            iterations=np.zeros(count, int),
        )

    def take(self, which: np.ndarray) -> Optima:
        """Return the optima of some problems."""
        return Optima(**{each.name: getattr(self, each.name)[which] for each in fields(self)})


@dataclass(kw_only=True)
class _State:
    """State of the iterations.

    The first axis of every array is F, so that solved problems are dropped from all at once.
    """

    number: Any  # [F] which problem
    coef: Any  # [F, D]
    score: Any  # [F, N] without intercept
    intercept: Any  # [F] float64
    gradient: Any  # [F, D]
    curvature: Any  # [F] float64 summed over the rows
    best: Any  # [F] float64 smallest gradient norm so far, relative to the coefficients
    best_at: Any  # [F] the iteration that reached it
    steps: list[_Pair] = field(default_factory=list)

    def keep(self, keep: Any) -> _State:
        arrays = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name != "steps"}
        return _State(
            **arrays, steps=[_Pair(step=p.step[keep], change=p.change[keep], factor=p.factor[keep]) for p in self.steps]
        )


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Step, and the change in the gradient that it made."""

    step: Any  # [F, D]
    change: Any  # [F, D]
    factor: Any  # [F] 1 / (step · change); 0 where rounding left no curvature, so that the pair counts for nothing


@dataclass(frozen=True, kw_only=True)
class _LinePoint:
    """Objective at a step length and an intercept, with its derivatives by both; [F] float64 but for `slope`."""

    length: Any
    intercept: Any
    value: Any
    slope: Any  # [F, N] weighted
    by_length: Any
    by_intercept: Any
    length_length: Any
    length_intercept: Any
    intercept_intercept: Any


class Minimiser:
    """L-BFGS (Liu & Nocedal 1989) on the coefficients, the intercept always at its best for them."""

    def __init__(
        self, design: ScaledInputs, loss: Loss, problems: Problems, inverse: Preconditioner, rows: float, xp: Any
    ) -> None:
        """Prepare to minimise; `rows` is the sum of the row weights that `inverse` was made with."""
        self.design = design
        self.loss = loss
        self.problems = problems
        self.inverse = inverse
        self.rows = rows
        self.xp = xp

    def run(self, coef: Any, intercept: Any, tolerance: float, max_iter: int, give_up: bool) -> Optima:
        """Minimise from `coef` [F, D] and `intercept` [F] float64.

        `give_up`: stop problems that make no more progress.
        """
        xp, count = self.xp, coef.shape[0]
        result = Optima.at(np.zeros(coef.shape), np.zeros(count))
        state = self._start(coef, intercept)
        for iteration in range(max_iter + 1):
            norm = _length(state.gradient, xp)
            relative = norm / xp.where(norm > 0, tolerance * _length(state.coef, xp) + self._rounding(), 1.0)
            better = relative < 0.9 * state.best
            state.best_at = xp.where(better, iteration, state.best_at)
            state.best = xp.where(better, relative, state.best)
            solved = relative <= 1
            ended = solved | (iteration - state.best_at >= _PATIENCE) if give_up else solved
            if iteration == max_iter:
                ended = solved | True
            if bool(xp.any(ended)):
                self._record(result, state, norm, solved, ended, iteration)
                if bool(xp.all(ended)):
                    break
                keep = xp.nonzero(~ended)[0]
                state, self.problems = state.keep(keep), self.problems.keep(keep)
            self._advance(state)
        return result

    def _start(self, coef: Any, intercept: Any) -> _State:
        xp, count = self.xp, coef.shape[0]
        score = self.design.logits(coef, self.problems.sets)
        still = xp.zeros_like(coef)
        start = self._search(coef, score, intercept, still, xp.zeros_like(score), xp.zeros_like(intercept))
        return _State(
            number=xp.arange(count, device=intercept.device),
            coef=coef,
            score=score,
            intercept=start.intercept,
            gradient=self.design.gradient(start.slope, self.problems.sets) + coef,
            curvature=start.intercept_intercept,
            best=xp.full_like(intercept, float("inf")),
            best_at=xp.zeros_like(intercept),
        )

    def _advance(self, state: _State) -> None:
        xp = self.xp
        direction = self._direction(state)
        along = self.design.logits(direction, self.problems.sets)  # [F, N]
        goal = 1e-2 * _length(state.gradient, xp) / state.coef.shape[1] ** 0.5
        found = self._search(state.coef, state.score, state.intercept, direction, along, goal)
        length = _as(found.length, direction, xp)[:, None]
        step = length * direction
        state.coef = state.coef + step
        state.score = state.score + length * along
        state.intercept, state.curvature = found.intercept, found.intercept_intercept
        gradient = self.design.gradient(found.slope, self.problems.sets) + state.coef
        change = gradient - state.gradient
        product = xp.sum(step * change, axis=1)
        factor = xp.where(product > 0, 1 / xp.where(product > 0, product, 1.0), 0.0)
        state.steps = [*state.steps, _Pair(step=step, change=change, factor=_as(factor, step, xp))][-_MEMORY:]
        state.gradient = gradient

    def _direction(self, state: _State) -> Any:
        """Return [F, D] downhill; the two loops of L-BFGS around the preconditioner."""
        xp = self.xp
        ahead, shares = state.gradient, []
        for pair in reversed(state.steps):
            share = pair.factor * xp.sum(pair.step * ahead, axis=1)
            shares.append(share)
            ahead = ahead - share[:, None] * pair.change
        ahead = self.inverse.apply(ahead, _as(state.curvature / self.rows, ahead, xp))
        for pair, share in zip(state.steps, reversed(shares), strict=True):
            ahead = ahead + (share - pair.factor * xp.sum(pair.change * ahead, axis=1))[:, None] * pair.step
        return -ahead

    def _search(self, coef: Any, score: Any, intercept: Any, direction: Any, along: Any, goal: Any) -> _LinePoint:
        """Find the best step length and intercept together, by Newton's method; costs no product with the inputs.

        `goal` [F]: the derivative by the intercept is made this small, that by the length a hundredth of what it was.
        """
        xp = self.xp
        lengths = tuple(_double(xp.sum(a * b, axis=1), xp) for a, b in ((coef, coef), (coef, direction)))
        lengths = (*lengths, _double(xp.sum(direction * direction, axis=1), xp))

        def at(length: Any, height: Any) -> _LinePoint:
            return self._evaluate(score, along, lengths, length, height)

        here = at(xp.zeros_like(intercept), intercept)
        small = 1e-2 * xp.abs(here.by_length)
        for turn in range(_ROUNDS):
            done = (xp.abs(here.by_length) <= small) & (xp.abs(here.by_intercept) <= goal)
            if turn and bool(xp.all(done)):
                break
            here = self._newton(at, here)
        return here

    def _newton(self, at: Any, here: _LinePoint) -> _LinePoint:
        """Take one step, shortened where the objective would rise by more than rounding."""
        xp = self.xp
        moving = here.length_length > 0
        ll = xp.where(moving, here.length_length, 1.0)
        ii = here.intercept_intercept + 1e-300
        li = here.length_intercept
        determinant = ll * ii - li * li
        usable = moving & (determinant > 1e-12 * ll * ii)
        safe = xp.where(usable, determinant, 1.0)
        by_length = xp.where(usable, (li * here.by_intercept - ii * here.by_length) / safe, 0.0)
        by_intercept = xp.where(usable, (li * here.by_length - ll * here.by_intercept) / safe, -here.by_intercept / ii)
        slack = 4 * xp.finfo(here.slope.dtype).eps * xp.abs(here.value)
        part = xp.ones_like(ll)
        for _ in range(_HALVINGS):
            there = at(here.length + part * by_length, here.intercept + part * by_intercept)
            rises = ~(there.value <= here.value + slack)
            if not bool(xp.any(rises)):
                return there
            part = xp.where(rises, part / 4, part)
        part = xp.where(rises, 0.0, part)
        return at(here.length + part * by_length, here.intercept + part * by_intercept)

    def _evaluate(
        self, score: Any, along: Any, lengths: tuple[Any, Any, Any], length: Any, intercept: Any
    ) -> _LinePoint:
        xp, weight = self.xp, self.problems.weight
        moved = score + _as(length, score, xp)[:, None] * along + _as(intercept, score, xp)[:, None]
        terms = self.loss.terms(moved, self.problems.sign, xp)
        slope, curvature = weight * terms.slope, weight * terms.curvature
        bent = curvature * along

        def total(array: Any) -> Any:
            return xp.sum(array, axis=1, dtype=xp.float64)

        start, cross, squared = lengths
        return _LinePoint(
            length=length,
            intercept=intercept,
            value=total(weight * terms.value) + 0.5 * (start + 2 * length * cross + length * length * squared),
            slope=slope,
            by_length=total(slope * along) + cross + length * squared,
            by_intercept=total(slope),
            length_length=total(bent * along) + squared,
            length_intercept=total(bent),
            intercept_intercept=total(curvature),
        )

    def _rounding(self) -> Any:
        """Return [F], what float64 leaves of a gradient that is zero."""
        return 1e-15 * self.xp.sum(self.problems.weight, axis=1, dtype=self.xp.float64)

    def _record(self, result: Optima, state: _State, norm: Any, solved: Any, ended: Any, iteration: int) -> None:
        out = self.xp.nonzero(ended)[0]
        number = host(state.number[out])
        result.coef[number] = host(state.coef[out])
        result.intercept[number] = host(state.intercept[out])
        result.gradient_norm[number] = host(norm[out])
        result.converged[number] = host(solved[out])
        result.iterations[number] = iteration


def host(array: Any) -> np.ndarray:
    """Return a numpy array, from a device too."""
    return np.asarray(array if isinstance(array, np.ndarray) else array.cpu())


def _length(array: Any, xp: Any) -> Any:
    """Return [F] float64 lengths."""
    double = _double(array, xp)
    return xp.sqrt(xp.sum(double * double, axis=1))


def _double(array: Any, xp: Any) -> Any:
    return xp.astype(array, xp.float64)


def _as(array: Any, like: Any, xp: Any) -> Any:
    return xp.astype(array, like.dtype)
