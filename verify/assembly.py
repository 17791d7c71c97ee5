"""Machine code of the kernels, as objdump prints it: functions, innermost loops, and what must not stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

HEAD = re.compile(r"^[0-9a-f]+ <(.*)>:$")
LINE = re.compile(r"^ *([0-9a-f]+):\s+(\S+)\s*(.*?)\s*(?://.*)?$")
KERNEL = re.compile(
    r"\b(tile|row_by_transposed|lanewise\w*|sliding_\w+|rolling_\w+|grouped\w*|gradient\w*|dot\w*)<"
)
# Jumps of 64-bit Arm, and where to.
JUMP = re.compile(r"b|b\.\w+|cbn?z|tbn?z")
TARGET = re.compile(r"\b0x([0-9a-f]+) <")
FUSED = r"fmla|fmadd"
VECTOR_ON_STACK = re.compile(r"^[qdsv]\d+\b.*\[sp\b")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str

    @property
    def jumps_to(self) -> int | None:
        target = TARGET.search(self.operands) if JUMP.fullmatch(self.name) else None
        return int(target[1], 16) if target else None


@dataclass(frozen=True)
class Function:
    name: str
    code: list[Instruction]

    @property
    def is_kernel(self) -> bool:
        return bool(KERNEL.search(self.name.partition("(nhwc_conv::")[0]))

    def having(self, names: str) -> list[Instruction]:
        """The instructions whose whole name matches."""
        return [line for line in self.code if re.fullmatch(names, line.name)]

    def innermost_loops(self) -> Iterator[Function]:
        """What stands from the target of a jump back up to it, with no other such jump inside."""
        back = [
            (line.jumps_to, line.address)
            for line in self.code
            if (line.jumps_to or line.address + 1) <= line.address
        ]
        for first, last in back:
            if not any(
                first <= start and end <= last and (start, end) != (first, last) for start, end in back
            ):
                yield Function(self.name, [line for line in self.code if first <= line.address <= last])

    def product_loops(self) -> list[Function]:
        """The innermost loops with fused products of 64-bit Arm."""
        return [loop for loop in self.innermost_loops() if loop.having(FUSED)]

    @property
    def spills(self) -> list[Instruction]:
        """What brings vectors of 64-bit Arm to the stack or back."""
        return [line for line in self.having("(ld|st)u?[rp]") if VECTOR_ON_STACK.search(line.operands)]

    @property
    def text(self) -> str:
        """For an assembler: jumps go to a label at the beginning."""
        lines = (f"{line.name} {re.sub(r'0x[0-9a-f]+ <.*', 'loop', line.operands)}" for line in self.code)
        return "loop:\n" + "\n".join(lines) + "\n"


def functions(listing: str) -> Iterator[Function]:
    """Those that `objdump -d --no-show-raw-insn` lists, GNU's or LLVM's."""
    found: Function | None = None
    for row in listing.splitlines():
        if head := HEAD.match(row):
            if found:
                yield found
            found = Function(head[1], [])
        elif found and (line := LINE.match(row)):
            found.code.append(Instruction(int(line[1], 16), line[2], line[3]))
    if found:
        yield found
