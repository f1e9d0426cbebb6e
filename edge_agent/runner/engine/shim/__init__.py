"""The byte shim: moves `list<u8>` between host and guest as text, which the C API carries in one piece.

The C API holds a `list<u8>` as one value of 32 bytes per byte, and lets a guest hand over 2.8 million of them at most.
When a component is compiled whose functions take or return bytes, a shim is therefore put around it (`compose`): a
generated component that speaks `string` to the host and `list<u8>` to the unchanged original. Lifting and lowering
convert (`moved.HEX`), so neither capabilities nor callers see anything but `bytes`.

The text is hexadecimal. Latin-1 would be half the size, but the engine transcodes its bytes from 128 up one by one: a
prototype took 84 ms for a megabyte of random bytes to the guest and back, and 35 ms with hexadecimal text, which is
ASCII, is copied, and takes the same time for all content. Python has both conversions in C. Measured medians of one
call, without and with the shim (two busy cores, Wasmtime 50):

| bytes   | host to guest, us | guest to host, us |
|---------|-------------------|-------------------|
| 0       | 2.9 -> 3.0        | 2.7 -> 2.7        |
| 16      | 3.6 -> 3.1        | 3.7 -> 3.1        |
| 1 KiB   | 16.6 -> 5.4       | 30.4 -> 5.0       |
| 64 KiB  | 893 -> 130        | 1712 -> 110       |
| 1 MiB   | 56100 -> 2200     | 73900 -> 2000     |

An engine that counts instructions does without the shim: copying takes about twenty of them per byte and component
boundary, and an agent's budget is for what the agent does.

It never costs more time, so every function that can go through it does. It costs about 9 us when an instance starts, a
memory of one page per direction that grows to twice the largest transfer and stays, and a second compilation of the
component. A call carries 8 MiB at most, arguments and result together. A guest that hands over more ends with
`unreachable`, in the shim.

Read `compose` first; `moved` decides what is converted, `core` how, `scope` and `abi` are about types as text and in
memory.
"""
