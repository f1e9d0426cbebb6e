"""The door to the Wasmtime C API that the `wasmtime` package ships: declared functions and layouts, nothing else.

Owns: argument and result types of every C function the binding calls, the sizes of the C structures it reads and
writes as raw bytes, and the numbers of the value and type kinds. Makes no call itself.

The functions are declared on handles of our own, so that the prototypes the `wasmtime` package declares on its handle
stay as they are. Pointers are plain integers (`c_void_p`; NULL comes back as `None`). `_waiting` releases the
interpreter lock and is for everything that may run guest code, compile, or take long. `_quick` keeps the lock: giving
it up for a call of a few nanoseconds can cost a whole switch interval when other threads are busy.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CDLL,
    CFUNCTYPE,
    PYFUNCTYPE,
    PyDLL,
    Structure,
    c_bool,
    c_int,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
)
from typing import TYPE_CHECKING, Any

from wasmtime import _ffi

if TYPE_CHECKING:
    from collections.abc import Callable

_waiting = CDLL(str(_ffi.filename))
_quick = PyDLL(str(_ffi.filename))


def _declare(library: CDLL, name: str, result: type | None, *arguments: type) -> Callable[..., Any]:
    function = library[name]
    function.restype = result
    function.argtypes = arguments
    return function


def _bare(library: CDLL, name: str, result: type | None) -> Callable[..., Any]:
    """A function that takes what `pointer` and `size` made, and nothing else.

    Without declared argument types, ctypes takes such arguments as they are. Making them is most of what a call costs:
    six arguments made once instead of every time turn 625 ns into 270.
    """
    function = library[name]
    function.restype = result
    return function


pointer: Callable[[int | None], object] = c_void_p.from_param
"""A pointer as an argument of a bare function."""
size: Callable[[int], object] = c_size_t.from_param
"""A `size_t` as an argument of a bare function."""


class ByteVec(Structure):
    """`wasm_byte_vec_t`: bytes owned by the engine until `byte_vec_delete`."""

    _fields_ = (("size", c_size_t), ("data", c_void_p))


class ValType(Structure):
    """`wasmtime_component_valtype_t`: kind and pointer to the parts."""

    _fields_ = (("kind", c_uint8), ("of", c_void_p))


class Item(Structure):
    """`wasmtime_component_item_t`: kind and pointer to the type; the widest case holds a `ValType` instead."""

    _fields_ = (("kind", c_uint8), ("of", c_void_p), ("_rest", c_void_p))

    @property
    def valtype(self) -> ValType:
        """What an item of kind `TYPE` holds; owned by the item."""
        return ValType.from_address(ctypes.addressof(self) + type(self).of.offset)


VAL_SIZE = 32
ENTRY_SIZE = 48
NAME_SIZE = 16
FUNC_SIZE = ctypes.sizeof(_ffi.wasmtime_component_func_t)
INSTANCE_SIZE = ctypes.sizeof(_ffi.wasmtime_component_instance_t)

if (
    ctypes.sizeof(_ffi.wasmtime_component_val_t) != VAL_SIZE
    or ctypes.sizeof(_ffi.wasmtime_component_valrecord_entry) != ENTRY_SIZE
    or ctypes.sizeof(_ffi.wasmtime_component_valtype_t) != ctypes.sizeof(ValType)
    or ctypes.sizeof(_ffi.wasmtime_component_item_t) != ctypes.sizeof(Item)
):
    raise RuntimeError("the wasmtime package has another C layout than this binding was written for")


def _kinds(prefix: str, names: str) -> dict[str, int]:
    return {name: int(getattr(_ffi, f"{prefix}{name}").value) for name in names.split()}


_SHARED_KINDS = (
    "BOOL S8 U8 S16 U16 S32 U32 S64 U64 F32 F64 CHAR STRING LIST RECORD TUPLE VARIANT ENUM OPTION RESULT FLAGS"
)
VAL_KIND = _kinds("WASMTIME_COMPONENT_", f"{_SHARED_KINDS} RESOURCE")
TYPE_KIND = _kinds("WASMTIME_COMPONENT_VALTYPE_", f"{_SHARED_KINDS} OWN BORROW FUTURE STREAM ERROR_CONTEXT")
ITEM_KIND = _kinds(
    "WASMTIME_COMPONENT_ITEM_", "COMPONENT COMPONENT_INSTANCE MODULE COMPONENT_FUNC RESOURCE CORE_FUNC TYPE"
)

HostCallback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t)
"""`(data, context, func_type, args, nargs, results, nresults) -> error or 0`."""
DestructorCallback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_uint32)
"""`(data, context, rep) -> error or 0`."""
EpochCallback = CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_void_p)
"""`(context, data, delta out, kind out) -> error or 0`."""

bytes_address: Callable[[bytes], int] = PYFUNCTYPE(c_void_p, py_object)(("PyBytes_AsString", ctypes.pythonapi))
"""Address of the content of a `bytes` object, valid while the object lives."""
text_at: Callable[[int, int], str] = PYFUNCTYPE(py_object, c_void_p, c_ssize_t)(
    ("PyUnicode_FromStringAndSize", ctypes.pythonapi)
)
"""UTF-8 text at an address, by its length in bytes."""
memory_at: Callable[[int, int, int], memoryview] = PYFUNCTYPE(py_object, c_void_p, c_ssize_t, c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)
"""Memory in place: address, size and access; to be gone before the memory is."""

# errors
error_new = _declare(_quick, "wasmtime_error_new", c_void_p, ctypes.c_char_p)
error_delete = _declare(_quick, "wasmtime_error_delete", None, c_void_p)
error_message = _declare(_quick, "wasmtime_error_message", None, c_void_p, c_void_p)
error_exit_status = _declare(_quick, "wasmtime_error_exit_status", c_bool, c_void_p, c_void_p)
byte_vec_delete = _declare(_quick, "wasm_byte_vec_delete", None, c_void_p)

# engine
config_new = _declare(_quick, "wasm_config_new", c_void_p)
config_epoch = _declare(_quick, "wasmtime_config_epoch_interruption_set", None, c_void_p, c_bool)
config_fuel = _declare(_quick, "wasmtime_config_consume_fuel_set", None, c_void_p, c_bool)
config_async = _declare(_quick, "wasmtime_config_wasm_component_model_async_set", None, c_void_p, c_bool)
config_async_stack = _declare(_quick, "wasmtime_config_async_stack_size_set", None, c_void_p, c_uint64)
config_stack = _declare(_quick, "wasmtime_config_max_wasm_stack_set", None, c_void_p, c_size_t)
config_concurrency = _declare(_quick, "wasmtime_config_concurrency_support_set", None, c_void_p, c_bool)
engine_new = _declare(_quick, "wasm_engine_new_with_config", c_void_p, c_void_p)
engine_delete = _declare(_quick, "wasm_engine_delete", None, c_void_p)
engine_tick = _declare(_quick, "wasmtime_engine_increment_epoch", None, c_void_p)

# components
component_new = _declare(_waiting, "wasmtime_component_new", c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)
component_serialize = _declare(_waiting, "wasmtime_component_serialize", c_void_p, c_void_p, c_void_p)
component_deserialize = _declare(
    _waiting, "wasmtime_component_deserialize", c_void_p, c_void_p, c_void_p, c_size_t, c_void_p
)
component_deserialize_file = _declare(
    _waiting, "wasmtime_component_deserialize_file", c_void_p, c_void_p, ctypes.c_char_p, c_void_p
)
component_delete = _declare(_waiting, "wasmtime_component_delete", None, c_void_p)
wat_to_wasm = _declare(_quick, "wasmtime_wat2wasm", c_void_p, c_void_p, c_size_t, c_void_p)
component_type = _declare(_quick, "wasmtime_component_type", c_void_p, c_void_p)
export_index = _declare(
    _quick, "wasmtime_component_get_export_index", c_void_p, c_void_p, c_void_p, ctypes.c_char_p, c_size_t
)
export_index_delete = _declare(_quick, "wasmtime_component_export_index_delete", None, c_void_p)

# component types; each `nth` writes a borrowed name and an owned type
component_type_delete = _declare(_quick, "wasmtime_component_type_delete", None, c_void_p)
import_count = _declare(_quick, "wasmtime_component_type_import_count", c_size_t, c_void_p, c_void_p)
import_nth = _declare(_quick, "wasmtime_component_type_import_nth", c_bool, *[c_void_p] * 2, c_size_t, *[c_void_p] * 3)
export_count = _declare(_quick, "wasmtime_component_type_export_count", c_size_t, c_void_p, c_void_p)
export_nth = _declare(_quick, "wasmtime_component_type_export_nth", c_bool, *[c_void_p] * 2, c_size_t, *[c_void_p] * 3)
instance_export_count = _declare(_quick, "wasmtime_component_instance_type_export_count", c_size_t, c_void_p, c_void_p)
instance_export_nth = _declare(
    _quick, "wasmtime_component_instance_type_export_nth", c_bool, *[c_void_p] * 2, c_size_t, *[c_void_p] * 3
)
extern_type = _declare(_quick, "wasmtime_component_extern_type", None, c_void_p, c_void_p)
extern_delete = _declare(_quick, "wasmtime_component_extern_delete", None, c_void_p)
item_delete = _declare(_quick, "wasmtime_component_item_delete", None, c_void_p)
func_type_async = _declare(_quick, "wasmtime_component_func_type_async", c_bool, c_void_p)
func_type_param_count = _declare(_quick, "wasmtime_component_func_type_param_count", c_size_t, c_void_p)
func_type_param_nth = _declare(
    _quick, "wasmtime_component_func_type_param_nth", c_bool, c_void_p, c_size_t, *[c_void_p] * 3
)
func_type_result = _declare(_quick, "wasmtime_component_func_type_result", c_bool, c_void_p, c_void_p)
valtype_delete = _declare(_quick, "wasmtime_component_valtype_delete", None, c_void_p)
list_element = _declare(_quick, "wasmtime_component_list_type_element", None, c_void_p, c_void_p)
record_count = _declare(_quick, "wasmtime_component_record_type_field_count", c_size_t, c_void_p)
record_nth = _declare(_quick, "wasmtime_component_record_type_field_nth", c_bool, c_void_p, c_size_t, *[c_void_p] * 3)
tuple_count = _declare(_quick, "wasmtime_component_tuple_type_types_count", c_size_t, c_void_p)
tuple_nth = _declare(_quick, "wasmtime_component_tuple_type_types_nth", c_bool, c_void_p, c_size_t, c_void_p)
variant_count = _declare(_quick, "wasmtime_component_variant_type_case_count", c_size_t, c_void_p)
variant_nth = _declare(_quick, "wasmtime_component_variant_type_case_nth", c_bool, c_void_p, c_size_t, *[c_void_p] * 4)
enum_count = _declare(_quick, "wasmtime_component_enum_type_names_count", c_size_t, c_void_p)
enum_nth = _declare(_quick, "wasmtime_component_enum_type_names_nth", c_bool, c_void_p, c_size_t, *[c_void_p] * 2)
flags_count = _declare(_quick, "wasmtime_component_flags_type_names_count", c_size_t, c_void_p)
flags_nth = _declare(_quick, "wasmtime_component_flags_type_names_nth", c_bool, c_void_p, c_size_t, *[c_void_p] * 2)
option_payload = _declare(_quick, "wasmtime_component_option_type_ty", None, c_void_p, c_void_p)
result_ok = _declare(_quick, "wasmtime_component_result_type_ok", c_bool, c_void_p, c_void_p)
result_err = _declare(_quick, "wasmtime_component_result_type_err", c_bool, c_void_p, c_void_p)
stream_element = _declare(_quick, "wasmtime_component_stream_type_ty", c_bool, c_void_p, c_void_p)
future_payload = _declare(_quick, "wasmtime_component_future_type_ty", c_bool, c_void_p, c_void_p)
resource_type_host = _declare(_quick, "wasmtime_component_resource_type_new_host", c_void_p, c_uint32)
resource_type_clone = _declare(_quick, "wasmtime_component_resource_type_clone", c_void_p, c_void_p)
resource_type_equal = _declare(_quick, "wasmtime_component_resource_type_equal", c_bool, c_void_p, c_void_p)
resource_type_delete = _declare(_quick, "wasmtime_component_resource_type_delete", None, c_void_p)

# stores
store_new = _declare(_quick, "wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
store_context = _declare(_quick, "wasmtime_store_context", c_void_p, c_void_p)
store_delete = _declare(_waiting, "wasmtime_store_delete", None, c_void_p)
store_limiter = _declare(_quick, "wasmtime_store_limiter", None, c_void_p, *[c_int64] * 5)
store_epoch_callback = _declare(
    _quick, "wasmtime_store_epoch_deadline_callback", None, c_void_p, EpochCallback, c_void_p, c_void_p
)
context_data = _declare(_quick, "wasmtime_context_get_data", c_void_p, c_void_p)
context_epoch_deadline = _declare(_quick, "wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
context_set_fuel = _declare(_quick, "wasmtime_context_set_fuel", c_void_p, c_void_p, c_uint64)

# linkers
linker_new = _declare(_quick, "wasmtime_component_linker_new", c_void_p, c_void_p)
linker_root = _declare(_quick, "wasmtime_component_linker_root", c_void_p, c_void_p)
linker_instantiate = _declare(_waiting, "wasmtime_component_linker_instantiate", c_void_p, *[c_void_p] * 4)
linker_delete = _declare(_quick, "wasmtime_component_linker_delete", None, c_void_p)
linker_add_instance = _declare(
    _quick, "wasmtime_component_linker_instance_add_instance", c_void_p, c_void_p, ctypes.c_char_p, c_size_t, c_void_p
)
linker_add_func = _declare(
    _quick,
    "wasmtime_component_linker_instance_add_func",
    c_void_p,
    c_void_p,
    ctypes.c_char_p,
    c_size_t,
    HostCallback,
    c_void_p,
    c_void_p,
)
linker_add_resource = _declare(
    _quick,
    "wasmtime_component_linker_instance_add_resource",
    c_void_p,
    c_void_p,
    ctypes.c_char_p,
    c_size_t,
    c_void_p,
    DestructorCallback,
    c_void_p,
    c_void_p,
)
linker_instance_delete = _declare(_quick, "wasmtime_component_linker_instance_delete", None, c_void_p)

# calls and values
instance_func = _declare(_quick, "wasmtime_component_instance_get_func", c_bool, *[c_void_p] * 4)
bare_func_call = _bare(_waiting, "wasmtime_component_func_call", c_void_p)
"""`(function, context, arguments, their count, results, their count) -> error or None`."""
bare_func_call_async = _bare(_quick, "wasmtime_component_func_call_async", c_void_p)
"""`(function, context, arguments, their count, results, their count, error out) -> call`; runs nothing yet."""
call_poll = _declare(_waiting, "wasmtime_call_future_poll", c_bool, c_void_p)
call_delete = _declare(_waiting, "wasmtime_call_future_delete", None, c_void_p)
bare_val_delete = _bare(_quick, "wasmtime_component_val_delete", None)
"""`(value)`."""
val_clone = _declare(_quick, "wasmtime_component_val_clone", None, c_void_p, c_void_p)

# resources
resource_any_to_host = _declare(_quick, "wasmtime_component_resource_any_to_host", c_void_p, *[c_void_p] * 3)
resource_any_clone = _declare(_quick, "wasmtime_component_resource_any_clone", c_void_p, c_void_p)
resource_any_drop = _declare(_waiting, "wasmtime_component_resource_any_drop", c_void_p, c_void_p, c_void_p)
resource_any_delete = _declare(_quick, "wasmtime_component_resource_any_delete", None, c_void_p)
resource_host_new = _declare(_quick, "wasmtime_component_resource_host_new", c_void_p, c_bool, c_uint32, c_uint32)
resource_host_rep = _declare(_quick, "wasmtime_component_resource_host_rep", c_uint32, c_void_p)
resource_host_type = _declare(_quick, "wasmtime_component_resource_host_type", c_uint32, c_void_p)
resource_host_to_any = _declare(_quick, "wasmtime_component_resource_host_to_any", c_void_p, *[c_void_p] * 3)
resource_host_delete = _declare(_quick, "wasmtime_component_resource_host_delete", None, c_void_p)

Pointer = c_void_p
Bool = c_bool
Size = c_size_t
Int = c_int
