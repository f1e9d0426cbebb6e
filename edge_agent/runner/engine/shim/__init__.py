"""The shim: moves lists of numbers between host and guest as text, which the C API carries in one piece.

The C API holds a `list<u8>`, and every other list, as one value of 32 bytes per item, and lets a guest hand over 2.8
million of them at most. When a component is compiled whose functions take or return lists of numbers, a shim is
therefore put around it (`compose`): a generated component that speaks `string` to the host and lists to the unchanged
original. Lifting and lowering convert (`moved.HEX`), so neither capabilities nor callers see anything but `bytes` and
`Numbers`.

The text is hexadecimal, two digits for each byte of a number as it lies in memory. Latin-1 would be half the size, but
the engine transcodes its bytes from 128 up one by one: a prototype took 84 ms for a megabyte of random bytes to the
guest and back, and 35 ms with hexadecimal text, which is ASCII, is copied, and takes the same time for all content.
Python has both conversions in C. Measured medians of one call, without and with the shim (two cores, Wasmtime 50):

| bytes   | host to guest, us | guest to host, us |
|---------|-------------------|-------------------|
| 0       | 2.9 -> 3.0        | 2.7 -> 2.7        |
| 16      | 3.6 -> 3.1        | 3.7 -> 3.1        |
| 1 KiB   | 16.6 -> 5.4       | 30.4 -> 5.0       |
| 64 KiB  | 893 -> 130        | 1712 -> 110       |
| 1 MiB   | 56100 -> 2200     | 73900 -> 1700     |

Of the 2.2 ms, Python's conversion takes 0.8 and the engine's own copy from component to component, byte by byte, 1.0. A
list of 262,144 `f32`, which the engine copies number by number, takes 1.7 and 1.1 ms. Copies of that size are quick
only where freed memory is kept for the next (`engine.malloc`); otherwise the kernel takes half of the time.

An engine that counts instructions does without the shim: copying takes about twenty of them per byte and component
boundary, and an agent's budget is for what the agent does.

It never costs more time, so every function that can go through it does. It costs about 9 us when an instance starts, a
memory of one page per direction that grows to twice the largest transfer and stays, and a second compilation of the
component. A call carries half of the memory limit and 64 MiB at most, arguments and result together. A guest that hands
over more ends in the shim, with cause `quota`.

Read `compose` first; `moved` decides what is converted, `core` how, `scope` and `abi` are about types as text and in
memory.
"""
