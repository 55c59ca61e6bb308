"""The few calls of the distribution's libbpf that the gate needs, through cffi (ABI mode: no compiler).

Only stable, exported functions are declared. Every call that fails raises ``KernelError``.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

import cffi

_DECLARATIONS = """
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32;
typedef unsigned long long __u64;
struct bpf_object; struct bpf_map; struct bpf_program;
struct bpf_object *bpf_object__open_file(const char *path, const void *opts);
int bpf_object__load(struct bpf_object *);
void bpf_object__close(struct bpf_object *);
struct bpf_map *bpf_object__find_map_by_name(struct bpf_object *, const char *);
struct bpf_program *bpf_object__find_program_by_name(struct bpf_object *, const char *);
int bpf_map__set_max_entries(struct bpf_map *, __u32);
int bpf_map__set_pin_path(struct bpf_map *, const char *);
int bpf_map__fd(struct bpf_map *);
int bpf_program__fd(struct bpf_program *);
typedef int (*libbpf_print_fn_t)(int level, const char *format, void *arguments);
void *libbpf_set_print(libbpf_print_fn_t);
struct bpf_map_create_opts { size_t sz; __u32 btf_fd, btf_key_type_id, btf_value_type_id,
  btf_vmlinux_value_type_id, inner_map_fd, map_flags; __u64 map_extra; __u32 numa_node, map_ifindex; };
int bpf_map_create(int type, const char *name, __u32 key, __u32 value, __u32 entries,
  const struct bpf_map_create_opts *);
int bpf_map_update_elem(int, const void *, const void *, __u64);
int bpf_map_lookup_elem(int, const void *, void *);
int bpf_map_delete_elem(int, const void *);
int bpf_map_lookup_and_delete_elem(int, const void *, void *);
int bpf_map_get_next_key(int, const void *, void *);
struct bpf_map_batch_opts { size_t sz; __u64 elem_flags, flags; };
int bpf_map_update_batch(int, const void *, const void *, __u32 *, const struct bpf_map_batch_opts *);
int bpf_map_lookup_batch(int, void *, void *, void *, void *, __u32 *, const struct bpf_map_batch_opts *);
int bpf_map_get_fd_by_id(__u32);
int bpf_obj_get(const char *);
int bpf_obj_pin(int, const char *);
int bpf_link_create(int program, int target, int type, const void *opts);
int bpf_link_update(int link, int program, const void *opts);
struct bpf_tc_hook { size_t sz; int ifindex; int attach_point; __u32 parent; size_t :0; };
struct bpf_tc_opts { size_t sz; int prog_fd; __u32 flags, prog_id, handle, priority; size_t :0; };
int bpf_tc_hook_create(struct bpf_tc_hook *);
int bpf_tc_attach(const struct bpf_tc_hook *, struct bpf_tc_opts *);
int bpf_tc_query(const struct bpf_tc_hook *, struct bpf_tc_opts *);
struct bpf_prog_query_opts { size_t sz; __u32 query_flags, attach_flags; __u32 *prog_ids;
  union { __u32 prog_cnt; __u32 count; }; __u32 *prog_attach_flags; __u32 *link_ids; __u32 *link_attach_flags;
  __u64 revision; size_t :0; };
int bpf_prog_query_opts(int target, int type, struct bpf_prog_query_opts *);
int bpf_obj_get_info_by_fd(int, void *, __u32 *);
struct bpf_test_run_opts { size_t sz; const void *data_in; void *data_out; __u32 data_size_in, data_size_out;
  const void *ctx_in; void *ctx_out; __u32 ctx_size_in, ctx_size_out, retval; int repeat;
  __u32 duration, flags, cpu, batch_size; };
int bpf_prog_test_run_opts(int program, struct bpf_test_run_opts *);
"""

ffi: Final = cffi.FFI()
ffi.cdef(_DECLARATIONS)

NULL: Final = ffi.NULL


class KernelError(OSError):
    """The kernel or libbpf refused a call; ``errno`` says why."""


def _open() -> Any:  # noqa: ANN401  # cffi's library objects have no static type
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            library = ffi.dlopen(name)
        except OSError:
            continue
        library.libbpf_set_print(NULL)  # type: ignore[attr-defined]  # what fails is told by exceptions, not on stderr
        return library
    message = "libbpf is missing: install it (apt-get install libbpf1)"
    raise KernelError(errno.ENOENT, message)


class _Library:
    """Opens libbpf at its first use, so that importing this module never fails."""

    _library: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if _Library._library is None:
            _Library._library = _open()
        return getattr(_Library._library, name)


lib: Final = _Library()


def check(result: int, what: str) -> int:
    """Pass ``result`` on.

    Raises:
        KernelError: it is negative; libbpf returns ``-errno``.
    """
    if result < 0:
        raise KernelError(-result, f"{what}: {os.strerror(-result)}")
    return result


def object_id(fd: int) -> int:
    """The kernel's number for the program or map with the descriptor ``fd``."""
    info = ffi.new("__u32[2]")  # struct bpf_prog_info and struct bpf_map_info begin with type and id
    length = ffi.new("__u32 *", 8)
    check(lib.bpf_obj_get_info_by_fd(fd, info, length), "ask for the number of a program or map")
    return int(info[1])


def struct(kind: str, **fields: int) -> Any:  # noqa: ANN401
    """Make a zeroed libbpf option struct whose ``sz`` is set."""
    made: Any = ffi.new(f"struct {kind} *")
    made.sz = ffi.sizeof(made[0])
    for name, value in fields.items():
        setattr(made, name, value)
    return made
