// What the C library's stdio would import from WASI to write to files, answered here: there are none. With it the
// component imports what its world names and nothing else. Remove this file, and the build links WASI instead.

#include <stdint.h>

#define EBADF 8 // wasi_snapshot_preview1

int32_t __imported_wasi_snapshot_preview1_fd_close(int32_t fd) {
  return EBADF;
}

int32_t __imported_wasi_snapshot_preview1_fd_seek(int32_t fd, int64_t offset, int32_t whence, int32_t new_offset) {
  return EBADF;
}

int32_t __imported_wasi_snapshot_preview1_fd_write(int32_t fd, int32_t vectors, int32_t length, int32_t written) {
  return EBADF;
}
